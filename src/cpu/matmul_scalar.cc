// Plain C++, for any processor. Sums run in a fixed number of lanes, so that compilers may use
// vectors without changing a bit.
#include "cpu/matmul_scalar.h"

#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kTile = 4;  // features that share a loaded activation

float widen(uint16_t bits) { return to_float(bf16{bits}); }

int64_t padded(int64_t k) { return (k + kDepth - 1) / kDepth * kDepth; }

void prepare(const uint16_t* x, int64_t k, void* out) {
  float* values = static_cast<float*>(out);
  for (int64_t i = 0; i < k; ++i) values[i] = widen(x[i]);
  for (int64_t i = k; i < padded(k); ++i) values[i] = 0;
}

float sum_lanes(const float* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
         ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

float dot(const float* a, const float* b, int64_t count) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (int lane = 0; i + lane < count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  return sum_lanes(lanes);
}

constexpr int64_t kPiece = 512;  // weights decoded at a time, then met by each row

void dot_dense(const uint16_t* weight, int64_t n, int64_t k, const void* const* x, int rows,
               float* z, int64_t z_stride) {
  float piece[kPiece];
  for (int64_t f = 0; f < n; ++f) {
    float sums[kMaxDotRows] = {};
    for (int64_t begin = 0; begin < k; begin += kPiece) {
      const int64_t count = begin + kPiece < k ? kPiece : k - begin;
      for (int64_t i = 0; i < count; ++i) piece[i] = widen(weight[f * k + begin + i]);
      for (int r = 0; r < rows; ++r)
        sums[r] += dot(piece, static_cast<const float*>(x[r]) + begin, count);
    }
    for (int r = 0; r < rows; ++r) z[r * z_stride + f] = sums[r];
  }
}

void decode_blocks(const uint8_t* codes, const uint8_t* scales, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; ++b) {
    const float* values = kMxfp4Float.values[scales[b]];
    for (int i = 0; i < 16; ++i) {
      const uint8_t pair = codes[b * 16 + i];
      out[b * 32 + 2 * i] = values[pair & 15];
      out[b * 32 + 2 * i + 1] = values[pair >> 4];
    }
  }
}

void dot_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
               const void* const* x, int rows, float* z, int64_t z_stride) {
  float piece[kPiece];
  const int64_t blocks = k / 32;
  for (int64_t f = 0; f < n; ++f) {
    float sums[kMaxDotRows] = {};
    for (int64_t begin = 0; begin < k; begin += kPiece) {
      const int64_t count = begin + kPiece < k ? kPiece : k - begin;
      const int64_t first = f * blocks + begin / 32;
      decode_blocks(codes + first * 16, scales + first, count / 32, piece);
      for (int r = 0; r < rows; ++r)
        sums[r] += dot(piece, static_cast<const float*>(x[r]) + begin, count);
    }
    for (int r = 0; r < rows; ++r) z[r * z_stride + f] = sums[r];
  }
}

void panel_dense(const uint16_t* weight, int64_t stride, int64_t features, int64_t k, void* panel,
                 int64_t panel_stride) {
  for (int64_t f = 0; f < features; ++f)
    prepare(weight + f * stride, k, static_cast<float*>(panel) + f * panel_stride);
}

void panel_mxfp4(const uint8_t* codes, const uint8_t* scales, int64_t block_stride,
                 int64_t features, int64_t k, void* panel, int64_t panel_stride) {
  for (int64_t f = 0; f < features; ++f)
    decode_blocks(codes + f * block_stride * 16, scales + f * block_stride, k / 32,
                  static_cast<float*>(panel) + f * panel_stride);
}

void multiply(const void* panel, int64_t panel_stride, int64_t features, const uint32_t* x,
              int64_t x_stride, int64_t groups, int64_t depth, float* sums, bool first) {
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t f = 0; f < features; f += kTile) {
      const float* a = static_cast<const float*>(panel) + f * panel_stride;
      float* c = sums + (g * features + f) * kGroup;
      float acc[kTile][kGroup];
      for (int i = 0; i < kTile; ++i)
        for (int t = 0; t < kGroup; ++t) acc[i][t] = first ? 0 : c[i * kGroup + t];
      for (int64_t p = 0; p < depth / 2; ++p) {
        const uint32_t* pairs = x + g * x_stride + p * kGroup;
        float even[kGroup], odd[kGroup];
        for (int t = 0; t < kGroup; ++t) {
          even[t] = __builtin_bit_cast(float, pairs[t] << 16);
          odd[t] = __builtin_bit_cast(float, pairs[t] & 0xffff0000u);
        }
        for (int i = 0; i < kTile; ++i) {
          const float w0 = a[i * panel_stride + 2 * p], w1 = a[i * panel_stride + 2 * p + 1];
          for (int t = 0; t < kGroup; ++t) acc[i][t] = acc[i][t] + w0 * even[t] + w1 * odd[t];
        }
      }
      for (int i = 0; i < kTile; ++i)
        for (int t = 0; t < kGroup; ++t) c[i * kGroup + t] = acc[i][t];
    }
  }
}

}  // namespace

void pack_group_scalar(const uint16_t* const* rows, int64_t k, uint32_t* out) {
  for (int t = 0; t < kGroup; ++t) {
    const uint16_t* row = rows[t];
    for (int64_t p = 0; p < padded(k) / 2; ++p) {
      const uint32_t low = row && 2 * p < k ? row[2 * p] : 0;
      const uint32_t high = row && 2 * p + 1 < k ? row[2 * p + 1] : 0;
      out[p * kGroup + t] = low | (high << 16);
    }
  }
}

void transpose_scalar(const float* sums, int64_t features, float* rows, int64_t row_stride) {
  for (int t = 0; t < kGroup; ++t)
    for (int64_t f = 0; f < features; ++f) rows[t * row_stride + f] = sums[f * kGroup + t];
}

void finish_bf16_scalar(const float* z, const float* bias, float scale, const uint16_t* residual,
                        uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    bf16 t = to_bf16((z[i] + (bias ? bias[i] : 0.0f)) * scale);
    if (residual) t = to_bf16(widen(residual[i]) + to_float(t));
    out[i] = t.bits;
  }
}

void finish_f32_scalar(const float* z, const float* bias, float scale, const float* residual,
                       float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float t = (z[i] + (bias ? bias[i] : 0.0f)) * scale;
    out[i] = residual ? residual[i] + t : t;
  }
}

uint16_t swiglu_scalar(float gate, float up, float alpha, float limit) {
  // In this order NaN passes through.
  const float g = gate > limit ? limit : gate;
  const float u = up > limit ? limit : up < -limit ? -limit : up;
  return to_bf16(g / (1.0f + std::exp(-alpha * g)) * (u + 1.0f)).bits;
}

void swiglu_row_scalar(const float* z, const float* bias, float alpha, float limit, int64_t n,
                       uint16_t* out) {
  for (int64_t j = 0; j < n; ++j)
    out[j] = swiglu_scalar(z[2 * j] + bias[2 * j], z[2 * j + 1] + bias[2 * j + 1], alpha, limit);
}

void swiglu_pairs_scalar(const float* sums, const float* bias, float alpha, float limit, int64_t n,
                         uint32_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float* z = sums + 4 * i * kGroup;
    const float* b = bias + 4 * i;
    for (int t = 0; t < kGroup; ++t) {
      const uint32_t low = swiglu_scalar(z[t] + b[0], z[kGroup + t] + b[1], alpha, limit);
      const uint32_t high =
          swiglu_scalar(z[2 * kGroup + t] + b[2], z[3 * kGroup + t] + b[3], alpha, limit);
      out[i * kGroup + t] = low | (high << 16);
    }
  }
}

void combine_scalar(const uint16_t* y, int64_t slots, int64_t y_stride, const uint16_t* residual,
                    uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int64_t slot = 0; slot < slots; ++slot) sum += widen(y[slot * y_stride + i]);
    bf16 t = to_bf16(sum);
    if (residual) t = to_bf16(widen(residual[i]) + to_float(t));
    out[i] = t.bits;
  }
}

const MatmulKernels& matmul_kernels_scalar() {
  static constexpr MatmulKernels kKernels = {.name = "scalar",
                                             .x_element_bytes = 4,
                                             .prepare_dense = prepare,
                                             .prepare_mxfp4 = prepare,
                                             .dot_dense = dot_dense,
                                             .dot_mxfp4 = dot_mxfp4,
                                             .panel_element_bytes = 4,
                                             .feature_tile = kTile,
                                             .features_per_task = 64,
                                             .k_chunk = 288,
                                             .pack_group = pack_group_scalar,
                                             .pack_group_mxfp4 = pack_group_scalar,
                                             .panel_dense = panel_dense,
                                             .panel_mxfp4 = panel_mxfp4,
                                             .multiply = multiply,
                                             .transpose = transpose_scalar,
                                             .finish_bf16 = finish_bf16_scalar,
                                             .finish_f32 = finish_f32_scalar,
                                             .swiglu = swiglu_row_scalar,
                                             .swiglu_pairs = swiglu_pairs_scalar,
                                             .combine = combine_scalar};
  return kKernels;
}

}  // namespace moxie::cpu
