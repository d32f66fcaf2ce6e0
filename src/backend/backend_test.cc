#include "backend/backend.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cpu/isa.h"

namespace moxie {
namespace {

TEST(Backends, PrecisionChoosesBetweenTheKernelsAndTheOracle) {
  EXPECT_EQ(make_backend({.precision = Precision::kFp32, .num_threads = 1})->activation_dtype(),
            DType::kF32);
  EXPECT_EQ(make_backend({.precision = Precision::kBf16, .num_threads = 1})->activation_dtype(),
            DType::kBF16);
  EXPECT_EQ(parse_precision("bf16"), Precision::kBf16);
  EXPECT_EQ(parse_precision("fp32"), Precision::kFp32);
  EXPECT_EQ(parse_precision("fp16"), std::nullopt);
}

TEST(Backends, ReportChoosesExactlyOneAndGivesReasons) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const std::vector<BackendReport> reports = describe_backends({.precision = precision});
    int chosen = 0;
    for (const BackendReport& report : reports) {
      EXPECT_FALSE(report.reason.empty()) << report.name;
      EXPECT_TRUE(report.available || !report.chosen) << report.name;
      chosen += report.chosen;
    }
    EXPECT_EQ(chosen, 1);
    const auto find = [&](const std::string& name) {
      const auto at = std::find_if(reports.begin(), reports.end(),
                                   [&](const BackendReport& r) { return r.name == name; });
      return at == reports.end() ? BackendReport{} : *at;
    };
    EXPECT_EQ(find("reference").chosen, precision == Precision::kFp32);
    EXPECT_EQ(find("cuda").reason, "not built in");
    EXPECT_FALSE(find("cuda").available);
    EXPECT_TRUE(find("cpu scalar").available);
    EXPECT_EQ(find(std::string("cpu ") + cpu::name(cpu::chosen_isa())).chosen,
              precision == Precision::kBf16);
  }
}

}  // namespace
}  // namespace moxie
