#include "ops/reference/mxfp4_linear.h"

#include <cmath>
#include <cstring>

#include "mxfp4/weight_layout.h"

namespace moxie {
namespace {

double weight_at(const Mxfp4LinearArgs& args, int64_t row, int64_t col) {
  const Mxfp4Matrices& w = args.weight;
  const int64_t block = col / mxfp4::kBlock, blocks = w.k / mxfp4::kBlock;
  const int t = static_cast<int>(col % mxfp4::kBlock);
  if (args.layout == Mxfp4Layout::kCheckpoint)
    return to_float(mxfp4::decode_element<bf16>(
        mxfp4::code_at(w.codes + (row * blocks + block) * mxfp4::kBlockBytes, t),
        w.scales[row * blocks + block]));
  uint32_t word = 0;
  std::memcpy(&word, w.codes + 4 * mxfp4::code_word(w.n, w.k, row, block, t % 8 / 2), 4);
  uint8_t eight[8];
  mxfp4::split_codes(word, eight);
  return to_float(mxfp4::decode_element<bf16>(eight[t / 8 * 2 + t % 2],
                                              w.scales[mxfp4::scale_byte(w.n, w.k, row, block)]));
}

}  // namespace

std::vector<ExactDot> reference_mxfp4_linear(const Mxfp4LinearArgs& args) {
  const int64_t rows = args.x.rows, n = args.weight.n, k = args.weight.k;
  std::vector<ExactDot> out(static_cast<size_t>(rows * n));
  std::vector<double> weight(static_cast<size_t>(k));
  for (int64_t feature = 0; feature < n; ++feature) {
    for (int64_t i = 0; i < k; ++i) weight[static_cast<size_t>(i)] = weight_at(args, feature, i);
    for (int64_t row = 0; row < rows; ++row) {
      const bf16* x = static_cast<const bf16*>(args.x.data) + row * args.x.stride;
      ExactDot& dot = out[static_cast<size_t>(row * n + feature)];
      for (int64_t i = 0; i < k; ++i) {
        const double product = weight[static_cast<size_t>(i)] * to_float(x[i]);
        dot.z += product;
        dot.abs_sum += std::fabs(product);
      }
      if (args.bias != nullptr) dot.z += args.bias[feature];
    }
  }
  return out;
}

}  // namespace moxie
