#include "cpu/isa.h"

#include <unistd.h>

#include <fstream>

#include "base/check.h"
#include "base/env.h"
#include "cpu/isa_detect.h"

namespace moxie::cpu {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx};

// The value of the first line "key : value" of /proc/cpuinfo; empty when there is none.
std::string cpuinfo_value(std::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

std::optional<Isa> parse_isa(std::string_view text) {
  for (const Isa isa : kAll) {
    if (text == name(isa)) return isa;
  }
  return std::nullopt;
}

Isa best_isa() {
  static const Isa isa = detect_isa();
  return isa;
}

Isa chosen_isa() {
  const std::optional<std::string> wanted = env::cpu_isa();
  if (!wanted) return best_isa();
  const std::optional<Isa> isa = parse_isa(*wanted);
  MOXIE_CHECK(isa.has_value(), kInvalidArgument,
              "MOXIE_CPU_ISA must be scalar, avx2, avx512, avx512_bf16 or amx, got \"", *wanted,
              "\"");
  MOXIE_CHECK(*isa <= best_isa(), kInvalidArgument, "MOXIE_CPU_ISA asks for ", *wanted,
              ", but this machine offers at most ", name(best_isa()), "; set that or unset it");
  return *isa;
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (isa <= best_isa()) isas.push_back(isa);
  }
  return isas;
}

CpuDescription describe_cpu() {
  CpuDescription description;
  description.model_name = cpuinfo_value("model name");
  if (description.model_name.empty()) description.model_name = detect_model_name();
  if (description.model_name.empty()) {
    // Arm's Linux gives numbers only.
    const std::string implementer = cpuinfo_value("CPU implementer"),
                      part = cpuinfo_value("CPU part");
    description.model_name = implementer.empty()
                                 ? "unknown processor"
                                 : "Arm implementer " + implementer + " part " + part;
  }
  description.features = detect_features();
  description.num_cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return description;
}

}  // namespace moxie::cpu
