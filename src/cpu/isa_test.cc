#include "cpu/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "moxie/error.h"

namespace moxie::cpu {
namespace {

struct ScopedIsaVariable {
  explicit ScopedIsaVariable(const char* value) {
    if (const char* old = std::getenv("MOXIE_CPU_ISA")) old_ = old;
    setenv("MOXIE_CPU_ISA", value, 1);
  }
  ~ScopedIsaVariable() {
    if (old_)
      setenv("MOXIE_CPU_ISA", old_->c_str(), 1);
    else
      unsetenv("MOXIE_CPU_ISA");
  }
  std::optional<std::string> old_;
};

TEST(IsaTest, NamesAreReadBack) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    EXPECT_EQ(parse_isa(name(isa)), isa);
  }
  EXPECT_EQ(parse_isa("AVX2"), std::nullopt);
  EXPECT_EQ(parse_isa(""), std::nullopt);
}

TEST(IsaTest, UsableSetsRiseFromScalarToBest) {
  const std::vector<Isa> isas = usable_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::kScalar);
  EXPECT_EQ(isas.back(), best_isa());
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
}

TEST(IsaTest, BestSetAgreesWithTheFeaturesListed) {
  const CpuDescription cpu = describe_cpu();
  const auto has = [&](const char* feature) {
    return std::find(cpu.features.begin(), cpu.features.end(), feature) != cpu.features.end();
  };
  if (best_isa() >= Isa::kAvx2) {
    EXPECT_TRUE(has("avx2") && has("fma") && has("f16c"));
  }
  if (best_isa() >= Isa::kAvx512) {
    EXPECT_TRUE(has("avx512f") && has("avx512vbmi"));
  }
  EXPECT_EQ(best_isa() >= Isa::kAvx512Bf16, best_isa() >= Isa::kAvx512 && has("avx512_bf16"));
  EXPECT_FALSE(cpu.model_name.empty());
  EXPECT_GE(cpu.num_cpus, 1);
}

TEST(IsaTest, TheEnvironmentCapsTheChoice) {
  for (const Isa isa : usable_isas()) {
    const ScopedIsaVariable variable(name(isa));
    EXPECT_EQ(chosen_isa(), isa);
  }
}

TEST(IsaTest, AnUnknownNameIsRefusedWithTheChoices) {
  const ScopedIsaVariable variable("sse9");
  try {
    chosen_isa();
    FAIL() << "sse9 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("sse9"), std::string::npos);
  }
}

TEST(IsaTest, MoreThanTheMachineHasIsRefused) {
  if (best_isa() == Isa::kAmx) GTEST_SKIP() << "this machine has every instruction set";
  const ScopedIsaVariable variable("amx");
  EXPECT_THROW(chosen_isa(), Error);
}

}  // namespace
}  // namespace moxie::cpu
