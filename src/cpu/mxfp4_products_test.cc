// What each kernel makes of MXFP4: codes, scales, numbers of blocks, rows far from ordinary.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cpu/matmul.h"
#include "cpu/matmul_test_support.h"
#include "mxfp4/block.h"
#include "ops/reference/random.h"

namespace moxie::cpu {
namespace {

// Through multiply_rows, which computes one row of `weights.features` sums.
void multiply_one_row(const MatmulKernels& kernels, const PanelSource& weights, const uint16_t* x,
                      float* sums) {
  const auto bytes = static_cast<size_t>(kernels.rows_memory_bytes + kernels.features_per_task * 4);
  std::vector<uint8_t> memory(bytes + 64, 0xff);
  void* begin = memory.data();
  size_t space = memory.size();
  std::align(64, bytes, begin, space);
  auto* out = reinterpret_cast<float*>(static_cast<uint8_t*>(begin) + kernels.rows_memory_bytes);
  const uint16_t* rows[1] = {x};
  kernels.multiply_rows(weights, rows, 1, begin, out);
  std::copy_n(out, weights.features, sums);
}

// Every code by every scale through each kernel's two ways to decode: weight f of a block is one
// code, the others are 0, and x is a power of two that brings the product into range. Every other
// feature has another scale, so that kinds of scales meet where several are decoded together.
TEST(Mxfp4Products, EveryCodeByEveryScale) {
  constexpr int64_t kBlocks = 3, kCols = kBlocks * 32, kFeatures = 32;
  for (const MatmulKernels* kernels : all_kernels()) {
    const bool flushes = kernels->panel_element_bytes == 2;
    for (int scale = 0; scale < 256; ++scale) {
      const int exponent = std::clamp(127 - scale, -120, 120);
      const bf16 x_value = to_bf16(std::ldexp(1.0f, exponent));
      const auto scale_of = [&](int64_t f) {
        return static_cast<uint8_t>((f < 16) == (f % 2 == 0) ? scale : 127);
      };
      for (int64_t at : {0, 33, 95}) {  // an even and an odd element, first and last block
        alignas(64) uint16_t x[kCols] = {};
        x[at] = x_value.bits;
        std::vector<uint8_t> codes(kFeatures * kBlocks * 16), scales(kFeatures * kBlocks, 127);
        for (int64_t f = 0; f < kFeatures; ++f) {
          codes[static_cast<size_t>(f * kBlocks * 16 + at / 2)] =
              static_cast<uint8_t>((f & 15) << (4 * (at & 1)));
          scales[static_cast<size_t>(f * kBlocks + at / 32)] = scale_of(f);
        }
        alignas(64) uint8_t prepared[kCols * 8];
        ASSERT_LE(kCols * kernels->x_element_bytes + kernels->x_extra_bytes, kCols * 8);
        float z[kFeatures];
        kernels->prepare_mxfp4(x, kCols, prepared);
        const void* rows[1] = {prepared};
        kernels->dot_mxfp4(codes.data(), scales.data(), kFeatures, kCols, rows, 1, z, kFeatures);

        PanelSource weights;
        weights.weights = codes.data();
        weights.scales = scales.data();
        weights.stride = kBlocks;
        weights.features = kFeatures;
        weights.k = kCols;
        float prefilled[kFeatures];
        if (kernels->multiply_rows) {
          multiply_one_row(*kernels, weights, x, prefilled);
        } else {
          alignas(64) uint32_t pairs[kCols / 2 * kGroup];
          const uint16_t* sources[kGroup] = {nullptr, nullptr, x};
          kernels->pack_group_mxfp4(sources, kCols, pairs);
          alignas(64) float sums[64 * kGroup];
          if (kernels->multiply_weights) {
            kernels->multiply_weights(weights, pairs, kCols / 2 * kGroup, 1, sums);
          } else {
            const int64_t padded = (kFeatures + kernels->feature_tile - 1) / kernels->feature_tile *
                                   kernels->feature_tile;
            alignas(64) uint8_t panel[64 * kCols * 4] = {};
            kernels->panel_mxfp4(codes.data(), scales.data(), kBlocks, kFeatures, kCols, panel,
                                 kCols);
            kernels->multiply(panel, kCols, padded, pairs, kCols / 2 * kGroup, 1, kCols, sums,
                              true);
          }
          for (int64_t f = 0; f < kFeatures; ++f) prefilled[f] = sums[f * kGroup + 2];
        }

        for (int f = 0; f < kFeatures; ++f) {
          const float weight =
              to_float(mxfp4::decode_element<bf16>(static_cast<uint8_t>(f & 15), scale_of(f)));
          const float want = weight * to_float(x_value);
          for (const float got : {z[f], prefilled[f]}) {
            const auto where = [&] {
              return std::string(kernels->name) + " scale " + std::to_string(scale_of(f)) +
                     " code " + std::to_string(f & 15) + " at " + std::to_string(at);
            };
            if (scale_of(f) == 255) {
              ASSERT_TRUE(std::isnan(got)) << where();
            } else if (flushes && std::fpclassify(weight) == FP_SUBNORMAL) {
              ASSERT_TRUE(got == want || got == 0) << where();
            } else {
              ASSERT_EQ(got, want) << where();
            }
          }
        }
      }
    }
  }
}

// Rows long enough that kernels may treat whole blocks in other ways, through decode alone.
constexpr int64_t kLongBlocks = 67, kLongCols = kLongBlocks * 32;

struct LongRows {
  static constexpr int64_t kRows = kMaxDotRows, kFeatures = 16;
  std::vector<uint16_t> x = std::vector<uint16_t>(kRows * kLongCols);
  std::vector<uint8_t> codes = std::vector<uint8_t>(kFeatures * kLongBlocks * 16);
  std::vector<uint8_t> scales = std::vector<uint8_t>(kFeatures * kLongBlocks, 127);

  // z[row][feature] of rows [first, first + count) in one call.
  std::vector<float> run(const MatmulKernels& kernels, int64_t first, int64_t count) const {
    const int64_t bytes = kLongCols * kernels.x_element_bytes + kernels.x_extra_bytes;
    std::vector<uint8_t> memory(static_cast<size_t>(count * bytes + 64), 0xff);
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
    const void* rows[kMaxDotRows] = {};
    for (int64_t r = 0; r < count; ++r) {
      auto* row = reinterpret_cast<uint8_t*>(begin) + r * bytes;
      kernels.prepare_mxfp4(x.data() + (first + r) * kLongCols, kLongCols, row);
      rows[r] = row;
    }
    std::vector<float> z(static_cast<size_t>(count * kFeatures));
    kernels.dot_mxfp4(codes.data(), scales.data(), kFeatures, kLongCols, rows,
                      static_cast<int>(count), z.data(), kFeatures);
    return z;
  }
  float weight(int64_t f, int64_t i) const {
    const uint8_t pair = codes[static_cast<size_t>((f * kLongCols + i) / 2)];
    const auto code = static_cast<uint8_t>(i % 2 == 0 ? pair & 15 : pair >> 4);
    return to_float(
        mxfp4::decode_element<bf16>(code, scales[static_cast<size_t>(f * kLongBlocks + i / 32)]));
  }
};

TEST(Mxfp4Products, EveryCodeByEveryScaleInLongRows) {
  for (const MatmulKernels* kernels : all_kernels()) {
    for (int scale = 0; scale < 256; ++scale) {
      const bf16 x_value = to_bf16(std::ldexp(-1.0f, std::clamp(127 - scale, -120, 120)));
      for (const int64_t at : {0, 33, 766, 2143}) {
        LongRows problem;
        problem.x[static_cast<size_t>(at)] = x_value.bits;
        for (int64_t f = 0; f < 16; ++f) {
          problem.codes[static_cast<size_t>((f * kLongCols + at) / 2)] =
              static_cast<uint8_t>(f << (4 * (at & 1)));
          problem.scales[static_cast<size_t>(f * kLongBlocks + at / 32)] =
              static_cast<uint8_t>(scale);
        }
        const std::vector<float> z = problem.run(*kernels, 0, 1);
        for (int64_t f = 0; f < 16; ++f) {
          const float got = z[static_cast<size_t>(f)], weight = problem.weight(f, at);
          const bool may_flush = kernels->panel_element_bytes == 2 && std::abs(weight) < 0x1p-126f;
          const auto where = [&] {
            return std::string(kernels->name) + " scale " + std::to_string(scale) + " code " +
                   std::to_string(f) + " at " + std::to_string(at);
          };
          if (scale == 255) {
            ASSERT_TRUE(std::isnan(got)) << where();
          } else if (!may_flush || got != 0) {
            ASSERT_EQ(got, weight * to_float(x_value)) << where();
          }
        }
      }
    }
  }
}

// All numbers of blocks that kernels may treat apart, and no, one and several weight rows.
TEST(Mxfp4Products, EveryNumberOfBlocks) {
  constexpr int64_t kMostBlocks = 35, kFeatures = 19;
  for (const MatmulKernels* kernels : all_kernels()) {
    for (int64_t blocks = 1; blocks <= kMostBlocks; ++blocks) {
      const int64_t k = blocks * 32;
      std::vector<uint16_t> x(static_cast<size_t>(k));
      // Exactly as long as they may be: the sanitizer sees what is read behind them.
      std::vector<uint8_t> codes(static_cast<size_t>(kFeatures * blocks * 16));
      std::vector<uint8_t> scales(static_cast<size_t>(kFeatures * blocks));
      const auto seed = static_cast<uint64_t>(blocks);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = to_bf16(static_cast<float>(random_bits(seed, i) % 17) - 8).bits;
      for (size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<uint8_t>(random_bits(seed + 100, i));
      for (size_t i = 0; i < scales.size(); ++i)
        scales[i] = static_cast<uint8_t>(126 + random_bits(seed + 200, i) % 3);
      std::vector<uint8_t> memory(
          static_cast<size_t>(k * kernels->x_element_bytes + kernels->x_extra_bytes + 64), 0xff);
      void* row = memory.data();
      size_t space = memory.size();
      std::align(64, 1, row, space);
      kernels->prepare_mxfp4(x.data(), k, row);
      const void* rows[1] = {row};
      for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{8}, kFeatures}) {
        std::vector<float> z(static_cast<size_t>(kFeatures), 77.0f);
        // The last n of the rows.
        const int64_t first = kFeatures - n;
        kernels->dot_mxfp4(codes.data() + first * blocks * 16, scales.data() + first * blocks, n, k,
                           rows, 1, z.data(), kFeatures);
        std::vector<float> prefilled(static_cast<size_t>(kFeatures), 77.0f);
        if (kernels->multiply_rows && n > 0) {
          PanelSource weights;
          weights.weights = codes.data() + first * blocks * 16;
          weights.scales = scales.data() + first * blocks;
          weights.stride = blocks;
          weights.features = n;
          weights.k = k;
          multiply_one_row(*kernels, weights, x.data(), prefilled.data());
        } else {
          prefilled = z;
        }
        for (int64_t f = 0; f < kFeatures; ++f) {
          float want = 77.0f;
          if (f < n) {
            std::vector<float> weights(static_cast<size_t>(k));
            mxfp4::decode_row(codes.data() + (first + f) * blocks * 16,
                              scales.data() + (first + f) * blocks, k, weights.data());
            want = 0;  // small integers over 4: exact in any order
            for (size_t i = 0; i < weights.size(); ++i) want += weights[i] * to_float(bf16{x[i]});
          }
          for (const std::vector<float>* got : {&z, &prefilled})
            ASSERT_EQ((*got)[static_cast<size_t>(f)], want)
                << kernels->name << " blocks " << blocks << " rows " << n << " feature " << f;
        }
      }
    }
  }
}

// Two weight rows whose scales differ in kind, four activation rows that do: each pair takes its
// own way, whatever is beside it.
TEST(Mxfp4Products, ExtremeRowsDoNotChangeTheirNeighbours) {
  LongRows problem;
  for (size_t i = 0; i < problem.x.size(); ++i)
    problem.x[i] = to_bf16(0.25f * static_cast<float>(random_bits(15, i) % 31) - 3).bits;
  for (size_t i = 0; i < problem.codes.size(); ++i)
    problem.codes[i] = static_cast<uint8_t>(random_bits(16, i));
  // Feature 9 is to have one product with its largest scale, so that no sum overflows on the way.
  std::fill_n(problem.codes.begin() + 9 * kLongBlocks * 16, 16, uint8_t{0});
  problem.codes[9 * kLongBlocks * 16] = 1;
  const LongRows clean = problem;
  problem.x[kLongCols + 700] = to_bf16(0x1.8p126f).bits;       // row 1: products may overflow
  problem.x[2 * kLongCols + 701] = to_bf16(0x1.8p-120f).bits;  // row 2: may be flushed
  const auto block_scale = [&](int64_t f, int64_t b) -> uint8_t& {
    return problem.scales[static_cast<size_t>(f * kLongBlocks + b)];
  };
  block_scale(3, 66) = 0;
  block_scale(5, 17) = 128;  // more than row 2 may have
  block_scale(9, 0) = 253;
  for (const MatmulKernels* kernels : all_kernels()) {
    const std::vector<float> z = problem.run(*kernels, 0, 4), want = clean.run(*kernels, 0, 4);
    for (int64_t row = 0; row < 4; ++row) {
      const std::vector<float> alone = problem.run(*kernels, row, 1);
      for (int64_t f = 0; f < LongRows::kFeatures; ++f) {
        const auto at = static_cast<size_t>(row * LongRows::kFeatures + f);
        EXPECT_EQ(z[at], alone[static_cast<size_t>(f)]) << kernels->name << " row " << row;
        if (f != 3 && f != 5 && f != 9 && (row == 0 || row == 3)) {
          EXPECT_EQ(z[at], want[at]) << kernels->name << " row " << row << " feature " << f;
        }
        double exact = 0, magnitude = 0;
        for (int64_t i = 0; i < kLongCols; ++i) {
          const bf16 x{problem.x[static_cast<size_t>(row * kLongCols + i)]};
          const double product = static_cast<double>(problem.weight(f, i)) * to_float(x);
          exact += product;
          magnitude += std::abs(product);
        }
        if (std::abs(exact) < 0x1p127) {
          EXPECT_NEAR(z[at], exact, static_cast<double>(kLongCols) * 0x1p-23 * magnitude)
              << kernels->name << " row " << row << " feature " << f;
        } else {
          EXPECT_GT(std::abs(z[at]), 0x1p126f) << kernels->name << " row " << row;
        }
      }
    }
  }
}

// Neighbours 2^0 to 2^120 apart, zeros among them: nothing may be rounded relative to the largest.
TEST(Mxfp4Products, ActivationsFarApartStayWithinTheErrorBound) {
  for (const int spread : {0, 6, 16, 24, 60}) {
    for (const int scale_spread : {1, 30, 150}) {
      LongRows problem;
      uint64_t index = 0;
      const auto random = [&](int64_t below) {
        return static_cast<int>(random_bits(77, index++) % static_cast<uint64_t>(below));
      };
      for (uint16_t& x : problem.x) {
        const float mantissa = 1.0f + static_cast<float>(random(128)) / 128.0f;
        const float value = std::ldexp(mantissa, random(2 * spread + 1) - spread);
        x = random(8) == 0 ? 0 : to_bf16(random(2) == 0 ? value : -value).bits;
      }
      // In one row only few of them.
      for (int64_t i = 0; i < kLongCols; ++i)
        if (i % 100 != 7) problem.x[static_cast<size_t>(2 * kLongCols + i)] = to_bf16(1.5f).bits;
      for (uint8_t& code : problem.codes) code = static_cast<uint8_t>(random(256));
      // Half of the features meet nothing but that row's small numbers, which thus count in full.
      for (int64_t f = 1; f < LongRows::kFeatures; f += 2) {
        for (int64_t i = 0; i < kLongCols; ++i) {
          const bf16 x{problem.x[static_cast<size_t>(2 * kLongCols + i)]};
          uint8_t& pair = problem.codes[static_cast<size_t>((f * kLongCols + i) / 2)];
          if (std::abs(to_float(x)) >= 1) pair &= i % 2 == 0 ? 0xf0 : 0x0f;
        }
      }
      for (uint8_t& scale : problem.scales)
        scale = static_cast<uint8_t>(150 - scale_spread + random(scale_spread));
      for (const MatmulKernels* kernels : all_kernels()) {
        const std::vector<float> z = problem.run(*kernels, 0, LongRows::kRows);
        for (int64_t row = 0; row < LongRows::kRows; ++row) {
          const std::vector<float> alone = problem.run(*kernels, row, 1);
          for (int64_t f = 0; f < LongRows::kFeatures; ++f) {
            const float got = z[static_cast<size_t>(row * LongRows::kFeatures + f)];
            ASSERT_EQ(got, alone[static_cast<size_t>(f)]) << kernels->name << " row " << row;
            double exact = 0, magnitude = 0;
            for (int64_t i = 0; i < kLongCols; ++i) {
              const auto x = static_cast<size_t>(row * kLongCols + i);
              const double product =
                  static_cast<double>(problem.weight(f, i)) * to_float(bf16{problem.x[x]});
              exact += product;
              magnitude += std::abs(product);
            }
            ASSERT_NEAR(got, exact, static_cast<double>(kLongCols) * 0x1p-23 * magnitude)
                << kernels->name << " spread " << spread << " row " << row << " feature " << f;
          }
        }
      }
    }
  }
}

TEST(Mxfp4Products, InfinityAndNanStayInTheirRow) {
  LongRows problem;
  for (size_t i = 0; i < problem.x.size(); ++i)
    problem.x[i] = to_bf16(0.25f * static_cast<float>(random_bits(5, i) % 16)).bits;
  for (size_t i = 0; i < problem.codes.size(); ++i)
    problem.codes[i] = static_cast<uint8_t>(0x11 + random_bits(6, i) % 7);  // no zero
  const LongRows clean = problem;
  problem.x[kLongCols + 5] = to_bf16(std::numeric_limits<float>::infinity()).bits;
  problem.x[2 * kLongCols + 2143] = to_bf16(std::numeric_limits<float>::quiet_NaN()).bits;
  for (const MatmulKernels* kernels : all_kernels()) {
    const std::vector<float> z = problem.run(*kernels, 0, 4), want = clean.run(*kernels, 0, 4);
    for (size_t f = 0; f < 16; ++f) {
      EXPECT_EQ(z[f], want[f]) << kernels->name;
      EXPECT_EQ(z[16 + f], std::numeric_limits<float>::infinity()) << kernels->name;
      EXPECT_TRUE(std::isnan(z[32 + f])) << kernels->name;
      EXPECT_EQ(z[48 + f], want[48 + f]) << kernels->name;
    }
  }
}

}  // namespace
}  // namespace moxie::cpu
