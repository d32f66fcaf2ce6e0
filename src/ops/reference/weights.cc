#include "ops/reference/weights.h"

#include <cmath>
#include <cstring>

#include "mxfp4/weight_layout.h"

namespace moxie {
namespace {

template <class T>
void decode_prepacked_row(const Mxfp4Matrices& m, int64_t e, int64_t row, float* out) {
  const uint8_t *codes = m.expert_codes(e), *scales = m.expert_scales(e);
  for (int64_t block = 0; block < m.k / mxfp4::kBlock; ++block, out += mxfp4::kBlock) {
    const uint8_t scale = scales[mxfp4::scale_byte(m.n, m.k, row, block)];
    for (int t = 0; t < 4; ++t) {
      uint32_t word = 0;
      std::memcpy(&word, codes + 4 * mxfp4::code_word(m.n, m.k, row, block, t), 4);
      uint8_t eight[8];
      mxfp4::split_codes(word, eight);
      for (int i = 0; i < 8; ++i)
        out[i / 2 * 8 + 2 * t + i % 2] = to_float(mxfp4::decode_element<T>(eight[i], scale));
    }
  }
}

}  // namespace

void decode_weight_row(const Mxfp4Matrices& weights, Mxfp4Layout layout, int64_t e, int64_t row,
                       DType dtype, float* out) {
  if (layout == Mxfp4Layout::kPrepacked) {
    if (dtype == DType::kF32)
      decode_prepacked_row<float>(weights, e, row, out);
    else
      decode_prepacked_row<bf16>(weights, e, row, out);
    return;
  }
  const int64_t blocks = weights.k / mxfp4::kBlock;
  const uint8_t* codes = weights.expert_codes(e) + row * blocks * mxfp4::kBlockBytes;
  const uint8_t* scales = weights.expert_scales(e) + row * blocks;
  for (int64_t b = 0; b < blocks; ++b, codes += mxfp4::kBlockBytes, out += mxfp4::kBlock) {
    if (dtype == DType::kF32) {
      mxfp4::decode_block(codes, scales[b], out);
    } else {
      bf16 values[mxfp4::kBlock];
      mxfp4::decode_block(codes, scales[b], values);
      for (int t = 0; t < mxfp4::kBlock; ++t) out[t] = to_float(values[t]);
    }
  }
}

ExactDot exact_dot(const float* a, const float* b, int64_t count) {
  constexpr int kLanes = 4;  // so that compilers may use vectors
  double sums[kLanes] = {}, magnitudes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double product = static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
      sums[lane] += product;
      magnitudes[lane] += std::abs(product);
    }
  }
  for (; i < count; ++i) {
    const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);
    sums[0] += product;
    magnitudes[0] += std::abs(product);
  }
  return {(sums[0] + sums[2]) + (sums[1] + sums[3]),
          (magnitudes[0] + magnitudes[2]) + (magnitudes[1] + magnitudes[3])};
}

}  // namespace moxie
