#include "model/value_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "base/bf16.h"
#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

struct Tensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

class ValueCheckTest : public FolderTest {
 protected:
  void save(const std::vector<Tensor>& tensors, const char* file = "model.safetensors") const {
    std::vector<SafetensorsWriter::Entry> entries;
    for (const Tensor& tensor : tensors)
      entries.push_back({tensor.name, tensor.dtype, tensor.shape});
    SafetensorsWriter writer(folder_ / file, entries, {});
    for (const Tensor& tensor : tensors) writer.write(tensor.bytes);
    writer.finish();
  }
  ValueReport check() const {
    return check_tensor_values(TensorFolder(folder_), [](uint64_t, uint64_t, std::string_view) {});
  }
  // Saves the tensors and expects one problem, a sentence with these parts.
  void expect_problem(const std::vector<Tensor>& tensors,
                      std::initializer_list<const char*> parts) const {
    save(tensors);
    const ValueReport report = check();
    ASSERT_EQ(report.problems.size(), 1u);
    EXPECT_SAYS(report.problems[0], (folder_ / "model.safetensors").string());
    for (const char* part : parts) EXPECT_SAYS(report.problems[0], part);
  }
};

template <class T>
std::vector<uint8_t> bytes_of(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// An expert matrix of `scales.size()` blocks, one to a row; every byte of a block is its entry of
// `codes`.
std::vector<Tensor> expert(const std::vector<uint8_t>& scales, const std::vector<uint8_t>& codes) {
  const auto rows = static_cast<int64_t>(scales.size());
  std::vector<uint8_t> blocks;
  for (const uint8_t code : codes) blocks.insert(blocks.end(), 16, code);
  return {{"down_proj_blocks", DType::kU8, {1, rows, 1, 16}, blocks},
          {"down_proj_scales", DType::kU8, {1, rows, 1}, scales}};
}

TEST(CountNotFinite, CountsExactlyTheBf16BitPatternsThatAreNaNOrInfinite) {
  std::vector<uint16_t> all(1 << 16);
  std::iota(all.begin(), all.end(), uint16_t{0});
  uint64_t first = 0;
  EXPECT_EQ(count_not_finite(bytes_of(all), DType::kBF16, &first), 256u);
  EXPECT_EQ(first, 0x7f80u);
  for (size_t i = 0; i < all.size(); i += 61) {
    const auto bytes = bytes_of(std::vector<uint16_t>{all[i]});
    const bool finite = std::isfinite(to_float(bf16{all[i]}));
    EXPECT_EQ(count_not_finite(bytes, DType::kBF16, &first), finite ? 0u : 1u) << i;
  }
}

// Borders of the other types, beside values that are all but not finite.
TEST(CountNotFinite, KnowsEveryFloatingPointType) {
  uint64_t first = 0;
  const std::vector<uint16_t> half = {0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0xffff, 0x03ff};
  EXPECT_EQ(count_not_finite(bytes_of(half), DType::kF16, &first), 4u);
  EXPECT_EQ(first, 2u);
  const std::vector<uint32_t> single = {0x7f7fffff, 0xff7fffff, 0x007fffff, 0x7f800000,
                                        0xff800000, 0x7f800001, 0xffffffff};
  EXPECT_EQ(count_not_finite(bytes_of(single), DType::kF32, &first), 4u);
  EXPECT_EQ(first, 3u);
  const std::vector<uint64_t> twice = {0x7fefffffffffffff, 0xffefffffffffffff, 0x7ff0000000000000,
                                       0xffffffffffffffff};
  EXPECT_EQ(count_not_finite(bytes_of(twice), DType::kF64, &first), 2u);
  EXPECT_EQ(first, 2u);
}

TEST(CountNotFinite, FindsOneAtEveryPlaceOfEveryLengthAndAddress) {
  std::vector<uint16_t> values(700, 0x7f7f);
  for (const size_t length : {1u, 3u, 4u, 255u, 256u, 257u, 511u, 513u, 700u}) {
    for (size_t bad = 0; bad < length; bad += length < 10 ? 1 : 7) {
      values[bad] = 0xff80;
      auto bytes = bytes_of(values);
      bytes.insert(bytes.begin(), 0);  // an odd address
      uint64_t first = 9999;
      const auto piece = std::span<const uint8_t>(bytes).subspan(1, 2 * length);
      EXPECT_EQ(count_not_finite(piece, DType::kBF16, &first), 1u);
      EXPECT_EQ(first, bad);
      values[bad] = 0x7f7f;
    }
  }
  uint64_t first = 7;
  EXPECT_EQ(count_not_finite(bytes_of(values), DType::kBF16, &first), 0u);
  EXPECT_EQ(count_not_finite({}, DType::kBF16, &first), 0u);
  EXPECT_EQ(first, 7u);
}

TEST_F(ValueCheckTest, AHealthyCheckpointHasNoProblemsAndAHistogram) {
  std::vector<Tensor> tensors = expert({120, 121, 120, 252}, {0x00, 0x80, 0x12, 0x77});
  tensors.push_back(
      {"norm", DType::kBF16, {3}, bytes_of(std::vector<uint16_t>{0, 0x3f80, 0xff7f})});
  tensors.push_back({"ids", DType::kI64, {2}, std::vector<uint8_t>(16, 255)});
  save(tensors);
  const ValueReport report = check();
  EXPECT_TRUE(report.problems.empty());
  EXPECT_EQ(report.scale_histogram[120], 2u);
  EXPECT_EQ(report.scale_histogram[121], 1u);
  EXPECT_EQ(report.scale_histogram[252], 1u);
  EXPECT_EQ(std::accumulate(report.scale_histogram.begin(), report.scale_histogram.end(), 0ull),
            4u);
  EXPECT_EQ(report.num_codes, 128u);
  EXPECT_EQ(report.num_zero_codes, 64u);
  EXPECT_EQ(report.bytes_read, 64u + 4 + 6 + 16);
}

TEST_F(ValueCheckTest, HostileRow07NaNOrInfinityInBf16) {
  std::vector<uint16_t> values(2000, 0x3f80);
  values[1003] = 0x7fc0;
  values[1999] = 0xff80;
  expect_problem({{"q", DType::kBF16, {20, 100}, bytes_of(values)}},
                 {"tensor \"q\": 2 of 2000 values", "the first at [10, 3]", "expected finite"});
}

TEST_F(ValueCheckTest, HostileRow07ProblemsPastTheFirstChunkHaveTheirPlace) {
  // A chunk has 16 MiB.
  std::vector<uint16_t> values((10 << 20) + 5, 0x3f80);
  values.back() = 0x7f80;
  const auto count = static_cast<int64_t>(values.size());
  expect_problem({{"q", DType::kBF16, {count}, bytes_of(values)}},
                 {("the first at [" + std::to_string(count - 1) + "]").c_str()});
}

TEST_F(ValueCheckTest, HostileRow07Scale255) {
  expect_problem(expert({120, 255, 255}, {0, 0, 0}),
                 {"down_proj_scales", "2 of 3 scales are 255, which is NaN",
                  "the first at [0, 1, 0]", "expected 0 to 252"});
}

TEST_F(ValueCheckTest, HostileRow07ScaleWhoseValuesOverflow) {
  // 254 with code 4, and 253 with code 6, in either nibble, of either sign.
  for (const uint8_t codes : {0x04, 0x40, 0xc1}) {
    expect_problem(expert({120, 254}, {0x77, codes}),
                   {"1 blocks overflow, the first with scale 254 at [0, 1, 0]"});
  }
  expect_problem(expert({253, 253}, {0x55, 0xe0}), {"the first with scale 253 at [0, 1, 0]"});
  // Large scales with small codes are finite.
  save(expert({253, 254, 254}, {0x5d, 0x3b, 0x00}));
  EXPECT_TRUE(check().problems.empty());
}

TEST_F(ValueCheckTest, HostileRow06ScalesAndBlocksThatDoNotPair) {
  std::vector<Tensor> pair = expert({120, 120}, {0, 0});
  expect_problem({pair[1]}, {"down_proj_scales\": U8 [1, 2, 1] has no blocks"});
  expect_problem({pair[0]}, {"has no scales; expected a tensor \"down_proj_scales\""});
  pair[1] = {"down_proj_scales", DType::kU8, {1, 3, 1}, {1, 1, 1}};
  expect_problem(pair, {"U8 [1, 3, 1] has blocks U8 [1, 2, 1, 16]"});
}

// Scales and blocks of one matrix may lie in different files.
TEST_F(ValueCheckTest, PairsAreFoundAcrossShards) {
  const std::vector<Tensor> pair = expert({120, 254}, {0x00, 0x70});
  save({pair[0]}, "a.safetensors");
  save({pair[1]}, "b.safetensors");
  const ValueReport report = check();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_SAYS(report.problems[0], "b.safetensors");
}

TEST_F(ValueCheckTest, ProgressRisesToTheTotalAndMayCancel) {
  save({{"a", DType::kU8, {40 << 20}, std::vector<uint8_t>(40 << 20)},
        {"b", DType::kF32, {2}, std::vector<uint8_t>(8)}});
  const TensorFolder folder(folder_);
  uint64_t last = 0;
  int calls = 0;
  check_tensor_values(folder, [&](uint64_t done, uint64_t total, std::string_view) {
    EXPECT_EQ(total, folder.total_bytes());
    EXPECT_GE(done, last);
    last = done;
    ++calls;
  });
  EXPECT_EQ(last, folder.total_bytes());
  EXPECT_EQ(calls, 3 + 1 + 1);
  struct Cancelled {};
  EXPECT_THROW(
      check_tensor_values(folder, [](uint64_t, uint64_t, std::string_view) { throw Cancelled{}; }),
      Cancelled);
}

}  // namespace
}  // namespace moxie
