// Detection by CPUID and XGETBV (Intel SDM volume 1, chapters 13 and 18), and Linux's permission
// for AMX state (Documentation/arch/x86/xstate.rst).
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>

#include "cpu/isa_detect.h"

namespace moxie::cpu {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the processor has no such leaf.
Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool bit(uint32_t word, int index) { return (word >> index) & 1; }

// Which register state the operating system saves (XCR0); without it a feature must not be used.
uint64_t enabled_state() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

constexpr uint64_t kAvxState = 0b110;                 // XMM, YMM
constexpr uint64_t kAvx512State = 0b11100110;         // and masks, ZMM, ZMM16..31
constexpr uint64_t kAmxState = uint64_t{0b11} << 17;  // tile configuration and data

// The permission holds for the whole process, threads to come included.
bool request_amx_permission() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

struct Feature {
  const char* name;
  bool present;
};

constexpr size_t kNumFeatures = 15;

std::array<Feature, kNumFeatures> detect() {
  const uint64_t state = enabled_state();
  const bool avx = (state & kAvxState) == kAvxState;
  const bool avx512 = (state & kAvx512State) == kAvx512State;
  const bool amx = (state & kAmxState) == kAmxState;
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  return {{{"avx2", avx && bit(seven.ebx, 5)},
           {"fma", avx && bit(one.ecx, 12)},
           {"f16c", avx && bit(one.ecx, 29)},
           {"bmi2", bit(seven.ebx, 8)},
           {"avx512f", avx512 && bit(seven.ebx, 16)},
           {"avx512dq", avx512 && bit(seven.ebx, 17)},
           {"avx512bw", avx512 && bit(seven.ebx, 30)},
           {"avx512vl", avx512 && bit(seven.ebx, 31)},
           {"avx512vbmi", avx512 && bit(seven.ecx, 1)},
           {"avx512_vnni", avx512 && bit(seven.ecx, 11)},
           {"avx512_bf16", avx512 && bit(seven_one.eax, 5)},
           {"avx512_fp16", avx512 && bit(seven.edx, 23)},
           {"amx_tile", amx && bit(seven.edx, 24)},
           {"amx_bf16", amx && bit(seven.edx, 22)},
           {"amx_int8", amx && bit(seven.edx, 25)}}};
}

}  // namespace

Isa detect_isa() {
  const auto features = detect();
  const auto has = [&](const char* wanted) {
    for (const Feature& feature : features) {
      if (std::strcmp(feature.name, wanted) == 0) return feature.present;
    }
    return false;
  };
  const auto has_all = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(), has);
  };
  if (!has_all({"avx2", "fma", "f16c", "bmi2"})) return Isa::kScalar;
  if (!has_all({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi"})) return Isa::kAvx2;
  if (!has_all({"avx512_bf16"})) return Isa::kAvx512;
  if (!has_all({"amx_tile", "amx_bf16"}) || !request_amx_permission()) return Isa::kAvx512Bf16;
  return Isa::kAmx;
}

std::string detect_model_name() {
  if (cpuid(0x80000000u, 0).eax < 0x80000004u) return {};
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    std::memcpy(text + 16 * i, &r, 16);
  }
  std::string name(text);
  const size_t begin = name.find_first_not_of(' ');
  return begin == std::string::npos ? std::string() : name.substr(begin);
}

std::vector<std::string> detect_features() {
  std::vector<std::string> names;
  for (const Feature& feature : detect()) {
    if (feature.present) names.push_back(feature.name);
  }
  return names;
}

}  // namespace moxie::cpu
