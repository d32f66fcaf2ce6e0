// Cuts an operation's scratch memory into arrays.
#pragma once

#include <cstdint>
#include <span>

#include "base/check.h"

namespace moxie::cpu {

// Without memory it only counts, so that one function both says how much an operation needs and
// lays it out.
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::span<uint8_t> memory) : memory_(memory), counting_(false) {}

  // 64-byte aligned, contents undefined.
  template <class T>
  T* take(int64_t count) {
    const int64_t begin = used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    if (counting_) return nullptr;
    MOXIE_CHECK_INTERNAL(used_ <= static_cast<int64_t>(memory_.size()));
    return reinterpret_cast<T*>(memory_.data() + begin);
  }
  int64_t used_bytes() const { return used_; }

 private:
  std::span<uint8_t> memory_;
  bool counting_ = true;
  int64_t used_ = 0;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace moxie::cpu
