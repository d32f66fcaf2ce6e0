// The experts block in float64, slowly, on the GPU: what moe_grouped_bench measures errors by.
// Benchmark code only.
#pragma once

#include <cuda_fp8.h>

#include <cmath>
#include <cstdio>
#include <vector>

#include "cuda/device.h"
#include "hopper/moe_grouped.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {

// What is rounded on the way; a row's largest magnitude comes to 448.
enum class ExactRounding { kNone, kX, kXAndInnerByConstant, kXAndInnerByRow };

namespace exact {

constexpr int kRows = 8;  // whose errors are measured

__device__ inline double weight(const uint8_t* codes, const uint8_t* scales, int n, int k, int row,
                                int i) {
  const auto word =
      reinterpret_cast<const uint32_t*>(codes)[mxfp4::code_word(n, k, row, i / 32, i % 8 / 2)];
  uint8_t of_word[8];
  mxfp4::split_codes(word, of_word);
  constexpr double kValues[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const uint8_t code = of_word[2 * (i % 32 / 8) + i % 2];
  const double value = ldexp(kValues[code & 7], scales[mxfp4::scale_byte(n, k, row, i / 32)] - 127);
  return code >= 8 ? -value : value;
}

__device__ inline double e4m3(double value) {
  __nv_fp8_e4m3 rounded;
  rounded = __nv_fp8_e4m3(static_cast<float>(value));
  return static_cast<double>(static_cast<float>(rounded));
}

// The factor by which `values`, k of them, come to 448 at most. All threads of a CTA.
template <class T>
__device__ double row_factor(const T* values, int k) {
  __shared__ float most;
  if (threadIdx.x == 0) {
    most = 0;
    for (int i = 0; i < k; ++i) most = fmaxf(most, fabsf(static_cast<float>(values[i])));
  }
  __syncthreads();
  return 448.0 / static_cast<double>(most);
}

struct Problem {
  MoeGroupedArgs args;
  const float* x;      // [kRows, hidden]
  double *inner, *y;   // [kRows * experts_per_token, inner], [.., hidden]
  const int32_t* ids;  // of those rows
  const float* weights;
  ExactRounding rounding;
};

__global__ inline void first_product(Problem p) {
  const MoeSizes& s = p.args.sizes;
  const int entry = static_cast<int>(blockIdx.x), e = p.ids[entry];
  const float* x = p.x + entry / s.experts_per_token * s.hidden;
  const double factor = p.rounding == ExactRounding::kNone ? 0 : row_factor(x, s.hidden);
  const int n = 2 * s.inner;
  const int64_t size = int64_t{n} * s.hidden;
  const uint8_t *codes = p.args.gate_up_codes + e * size / 2,
                *scales = p.args.gate_up_scales + e * size / 32;
  for (int j = static_cast<int>(threadIdx.x + blockIdx.y * blockDim.x); j < s.inner;
       j += static_cast<int>(blockDim.x * gridDim.y)) {
    double z[2] = {p.args.gate_up_bias[e * n + 2 * j], p.args.gate_up_bias[e * n + 2 * j + 1]};
    for (int i = 0; i < s.hidden; ++i) {
      double v = x[i];
      if (factor != 0) v = e4m3(v * factor) / factor;
      for (int half = 0; half < 2; ++half)
        z[half] += v * weight(codes, scales, n, s.hidden, 2 * j + half, i);
    }
    const double limit = p.args.limit, g = fmin(z[0], limit), u = fmax(fmin(z[1], limit), -limit);
    p.inner[int64_t{entry} * s.inner + j] = g / (1 + exp(-p.args.alpha * g)) * (u + 1);
  }
}

__global__ inline void second_product(Problem p) {
  const MoeSizes& s = p.args.sizes;
  const int entry = static_cast<int>(blockIdx.x), e = p.ids[entry];
  const double* inner = p.inner + int64_t{entry} * s.inner;
  const double factor = p.rounding == ExactRounding::kXAndInnerByConstant ? 8
                        : p.rounding == ExactRounding::kXAndInnerByRow ? row_factor(inner, s.inner)
                                                                       : 0;
  const int64_t size = int64_t{s.hidden} * s.inner;
  const uint8_t *codes = p.args.down_codes + e * size / 2,
                *scales = p.args.down_scales + e * size / 32;
  for (int f = static_cast<int>(threadIdx.x + blockIdx.y * blockDim.x); f < s.hidden;
       f += static_cast<int>(blockDim.x * gridDim.y)) {
    double y = p.args.down_bias[e * s.hidden + f];
    for (int i = 0; i < s.inner; ++i) {
      double v = inner[i];
      if (factor != 0) v = e4m3(v * factor) / factor;
      y += v * weight(codes, scales, s.hidden, s.inner, f, i);
    }
    p.y[int64_t{entry} * s.hidden + f] = y * static_cast<double>(p.weights[entry]);
  }
}

}  // namespace exact

// Rows of the block, spread over args' rows, chosen experts given; their outputs in float64.
class ExactMoe {
 public:
  explicit ExactMoe(MoeGroupedArgs args) : args_(args) {
    const MoeSizes& s = args.sizes;
    rows_ = static_cast<int>(std::min<int64_t>(exact::kRows, s.rows));
    std::vector<int32_t> ids;
    std::vector<float> weights;
    for (int64_t r = 0; r < s.rows; ++r)
      for (int i = 0; i < s.experts_per_token; ++i) {
        const int64_t spread = s.num_experts / s.experts_per_token;
        ids.push_back(static_cast<int32_t>((r * 13 + r / 7 + i * spread) % s.num_experts));
        weights.push_back(0.1f + 0.1f * static_cast<float>((r + i) % 4));
      }
    ids_ = cuda::DeviceBuffer<int32_t>(ids), weights_ = cuda::DeviceBuffer<float>(weights);
    args_.logits = nullptr;
    args_.expert_ids = ids_.data(), args_.weights = weights_.data();
    std::vector<bf16> x(static_cast<size_t>(s.rows * s.hidden));
    MOXIE_CUDA_CHECK(cudaMemcpy(x.data(), args.x, x.size() * sizeof(bf16), cudaMemcpyDeviceToHost));
    std::vector<float> sampled;
    std::vector<int32_t> sampled_ids;
    std::vector<float> sampled_weights;
    for (int r = 0; r < rows_; ++r) {
      for (int i = 0; i < s.hidden; ++i)
        sampled.push_back(to_float(x[static_cast<size_t>(row(r) * s.hidden + i)]));
      for (int i = 0; i < s.experts_per_token; ++i) {
        const auto entry = static_cast<size_t>(row(r) * s.experts_per_token + i);
        sampled_ids.push_back(ids[entry]), sampled_weights.push_back(weights[entry]);
      }
    }
    x_ = cuda::DeviceBuffer<float>(sampled);
    sampled_ids_ = cuda::DeviceBuffer<int32_t>(sampled_ids);
    sampled_weights_ = cuda::DeviceBuffer<float>(sampled_weights);
  }
  // With the choice of experts that these rows have.
  const MoeGroupedArgs& args() const { return args_; }

  std::vector<double> run(ExactRounding rounding) const {
    const MoeSizes& s = args_.sizes;
    const int entries = rows_ * s.experts_per_token;
    const cuda::DeviceBuffer<double> inner(static_cast<size_t>(entries) *
                                           static_cast<size_t>(s.inner));
    const cuda::DeviceBuffer<double> y(static_cast<size_t>(entries) *
                                       static_cast<size_t>(s.hidden));
    const exact::Problem p{args_,    x_.data(),           inner.data(),
                           y.data(), sampled_ids_.data(), sampled_weights_.data(),
                           rounding};
    const dim3 ctas(static_cast<unsigned>(entries), 23);
    exact::first_product<<<ctas, 128>>>(p);
    exact::second_product<<<ctas, 128>>>(p);
    MOXIE_CUDA_CHECK(cudaDeviceSynchronize());
    const std::vector<double> of_entries = y.to_host();
    std::vector<double> out(static_cast<size_t>(rows_) * static_cast<size_t>(s.hidden));
    for (int r = 0; r < rows_; ++r)
      for (int i = 0; i < s.experts_per_token; ++i)
        for (int f = 0; f < s.hidden; ++f)
          out[static_cast<size_t>(r * s.hidden + f)] +=
              of_entries[static_cast<size_t>((r * s.experts_per_token + i) * s.hidden + f)];
    return out;
  }

  // The rows that run() computes, of what a kernel wrote.
  std::vector<double> sample(const bf16* out) const {
    const MoeSizes& s = args_.sizes;
    std::vector<bf16> all(static_cast<size_t>(s.rows * s.hidden));
    MOXIE_CUDA_CHECK(
        cudaMemcpy(all.data(), out, all.size() * sizeof(bf16), cudaMemcpyDeviceToHost));
    std::vector<double> sampled;
    for (int r = 0; r < rows_; ++r)
      for (int f = 0; f < s.hidden; ++f)
        sampled.push_back(
            static_cast<double>(to_float(all[static_cast<size_t>(row(r) * s.hidden + f)])));
    return sampled;
  }

 private:
  int64_t row(int r) const { return r * args_.sizes.rows / rows_; }

  MoeGroupedArgs args_;
  int rows_;
  cuda::DeviceBuffer<int32_t> ids_, sampled_ids_;
  cuda::DeviceBuffer<float> weights_, sampled_weights_, x_;
};

inline double relative_rms(const std::vector<double>& got, const std::vector<double>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);
}

// The kernels' error over some rows, relative RMS.
inline void print_error(const MoeGroupedArgs& args, const GroupedGemmConfig& config,
                        void* workspace, cudaStream_t stream) {
  const ExactMoe exact(args);
  MOXIE_CUDA_CHECK(launch_moe_grouped(exact.args(), config, workspace, stream));
  MOXIE_CUDA_CHECK(cudaStreamSynchronize(stream));
  const std::vector<double> got = exact.sample(args.out);
  std::printf("  error, relative RMS, to float64 with nothing rounded: %.2e",
              relative_rms(got, exact.run(ExactRounding::kNone)));
  if (is_fp8(config.shape))
    std::printf("; to float64 with rows and hidden values rounded as here: %.2e",
                relative_rms(got, exact.run(ExactRounding::kXAndInnerByConstant)));
  std::printf("\n");
}

// What rounding to e4m3 costs by itself.
inline void print_rounding_errors(const MoeGroupedArgs& args, cudaStream_t) {
  const ExactMoe exact(args);
  const std::vector<double> want = exact.run(ExactRounding::kNone);
  std::printf(
      "  rounding alone, in float64: rows %.2e, and hidden values times 8 %.2e, and hidden "
      "values by their rows' maxima %.2e\n",
      relative_rms(exact.run(ExactRounding::kX), want),
      relative_rms(exact.run(ExactRounding::kXAndInnerByConstant), want),
      relative_rms(exact.run(ExactRounding::kXAndInnerByRow), want));
}

}  // namespace moxie::hopper
