// The only place that knows all backends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/backend.h"

namespace moxie {

enum class Precision : uint8_t {
  kBf16,  // bf16 at tensor boundaries, float32 inside: the fast kernels
  kFp32,  // the oracle: ops/reference
};
std::optional<Precision> parse_precision(std::string_view name);  // "bf16", "fp32"

struct BackendOptions {
  Precision precision = Precision::kBf16;
  int num_threads = 0;  // 0: available_cpus()
};
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

// For `doctor`: what there is, whether it will be used, and why.
struct BackendReport {
  std::string name;
  bool available = false, chosen = false;
  std::string reason;
};
std::vector<BackendReport> describe_backends(const BackendOptions& options);

}  // namespace moxie
