// A ProgressBar over bytes: "[====    ] 35% 4.81 of 13.8 GB, 412 MB/s, 22 s left, lm_head.weight".
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "terminal.h"

namespace moxie::cli {

class ByteProgress {
 public:
  explicit ByteProgress(std::string title) : bar_(std::move(title)), start_(Clock::now()) {}

  void update(uint64_t done, uint64_t total, std::string_view what);
  void clear() { bar_.clear(); }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  ProgressBar bar_;
  Clock::time_point start_;
};

}  // namespace moxie::cli
