// Which instruction set the CPU kernels use, chosen once at start.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moxie::cpu {

// In rising order of preference; each contains those before it (kAmx: AVX-512 BF16 and AMX-BF16
// tiles).
enum class Isa : uint8_t { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };

const char* name(Isa isa);  // "scalar", "avx2", "avx512", "avx512_bf16", "amx"
std::optional<Isa> parse_isa(std::string_view name);

// Best set that CPU and operating system both offer (AMX needs a permission from Linux, which this
// asks for). AVX2 means AVX2 + FMA + F16C + BMI2; AVX-512 means F, BW, DQ, VL and VBMI.
Isa best_isa();
// best_isa() capped by MOXIE_CPU_ISA; Error(kInvalidArgument) when that names nothing known or more
// than the machine has.
Isa chosen_isa();
// kScalar up to best_isa(): for tests, which run each.
std::vector<Isa> usable_isas();

struct CpuDescription {
  std::string model_name;             // "Intel(R) Xeon(R) Platinum 8481C"
  std::vector<std::string> features;  // those that matter here, "avx2", "fma", "avx512f", ...
  int num_cpus = 0;
};
CpuDescription describe_cpu();

}  // namespace moxie::cpu
