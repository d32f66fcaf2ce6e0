#include "ops/reference/mxfp4_linear.h"

#include "ops/reference/weights.h"

namespace moxie {

std::vector<ExactDot> reference_mxfp4_linear(const Mxfp4LinearArgs& args) {
  const int64_t rows = args.x.rows, n = args.weight.n, k = args.weight.k;
  std::vector<float> x(static_cast<size_t>(rows * k)), weight(static_cast<size_t>(k));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < k; ++i)
      x[static_cast<size_t>(row * k + i)] =
          to_float(static_cast<const bf16*>(args.x.data)[row * args.x.stride + i]);
  std::vector<double> quanta(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row)
    quanta[static_cast<size_t>(row)] = quantum_of({x.data() + row * k, static_cast<size_t>(k)});
  std::vector<ExactDot> out(static_cast<size_t>(rows * n));
  for (int64_t feature = 0; feature < n; ++feature) {
    decode_weight_row(args.weight, args.layout, 0, feature, DType::kBF16, weight.data());
    const double quantum = quantum_of(weight);
    for (int64_t row = 0; row < rows; ++row) {
      ExactDot& dot = out[static_cast<size_t>(row * n + feature)];
      dot = exact_dot(x.data() + row * k, weight.data(), k);
      dot.quantum = quantum * quanta[static_cast<size_t>(row)];
      if (args.bias != nullptr) dot.z += static_cast<double>(args.bias[feature]);
    }
  }
  return out;
}

}  // namespace moxie
