#include "cpu/linear.h"

#include <algorithm>

#include "base/check.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"
#include "cpu/matmul_prefill.h"
#include "cpu/scratch.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kRowsPerPass = 1024;  // more are taken in several passes, which bounds scratch
// Weight rows of a decode task, as reading is slow at the beginning of each: 276 KB at k = 2880,
// and more where that leaves kMinLargeTasks to each thread and the weights are read but once.
constexpr int64_t kFeaturesPerDot = 48, kMostFeaturesPerDot = 384, kMinLargeTasks = 64;

struct PrefillScratch {
  uint32_t* groups;  // without multiply_rows
  PanelScratch panels;

  PrefillScratch(Scratch& scratch, const MatmulKernels& kernels, int64_t rows, int64_t k,
                 int num_threads)
      : groups(scratch.take<uint32_t>(
            kernels.multiply_rows ? 0 : ceil_div(rows, kGroup) * group_pairs(k))),
        panels(scratch, kernels, num_threads) {}
};

struct DecodeScratch {
  int64_t row_bytes;
  uint8_t* x;
  float* z;

  DecodeScratch(Scratch& scratch, const MatmulKernels& kernels, int64_t rows, int64_t k,
                int num_threads)
      : row_bytes(round_up(k, kDepth) * kernels.x_element_bytes),
        x(scratch.take<uint8_t>(rows * row_bytes)),
        z(scratch.take<float>(num_threads * kMaxDotRows * kMostFeaturesPerDot)) {}
};

const uint16_t* bf16_row(const ConstRows& x, int64_t row) {
  return static_cast<const uint16_t*>(x.data) + row * x.stride;
}

// Bias, residual and rounding for features [begin, begin + count) of one row.
void finish(const LinearArgs& args, const MatmulKernels& kernels, int64_t row, int64_t begin,
            int64_t count, const float* z) {
  const float* bias = args.bias ? args.bias + begin : nullptr;
  const int64_t at = row * args.out.stride + begin;
  const int64_t residual_at = row * args.residual.stride + begin;
  if (args.out.dtype == DType::kBF16) {
    const auto* residual = static_cast<const uint16_t*>(args.residual.data);
    kernels.finish_bf16(z, bias, 1.0f, residual ? residual + residual_at : nullptr,
                        static_cast<uint16_t*>(args.out.data) + at, count);
  } else {
    const auto* residual = static_cast<const float*>(args.residual.data);
    kernels.finish_f32(z, bias, 1.0f, residual ? residual + residual_at : nullptr,
                       static_cast<float*>(args.out.data) + at, count);
  }
}

void prefill(const LinearArgs& args, const MatmulKernels& kernels, Context& context, int64_t first,
             int64_t rows) {
  const int64_t n = args.weight.n, k = args.weight.k;
  Scratch scratch(context.scratch);
  const PrefillScratch memory(scratch, kernels, rows, k, context.pool.num_threads());
  const int64_t groups = ceil_div(rows, kGroup), pairs = group_pairs(k);
  context.pool.parallel_for(kernels.multiply_rows ? 0 : static_cast<int>(groups), [&](int g, int) {
    const uint16_t* sources[kGroup] = {};
    for (int64_t t = 0; t < std::min(kGroup, rows - g * kGroup); ++t)
      sources[t] = bf16_row(args.x, first + g * kGroup + t);
    kernels.pack_group(sources, k, memory.groups + g * pairs);
  });

  const auto* weight = reinterpret_cast<const uint16_t*>(args.weight.data);
  const int threads = context.pool.num_threads();
  const int64_t per_task = groups_per_task(kernels.dense_groups, groups,
                                           ceil_div(n, kernels.features_per_task), threads);
  const int64_t blocks = ceil_div(groups, per_task);
  const int64_t task_n = task_features(kernels, n, blocks, threads);
  context.pool.parallel_for(static_cast<int>(ceil_div(n, task_n) * blocks), [&](int task,
                                                                                int worker) {
    const int64_t task_begin = task / blocks * task_n, task_end = std::min(n, task_begin + task_n);
    const int64_t first_group = task % blocks * per_task;
    const int64_t count = std::min(per_task, groups - first_group);
    float* sums = memory.panels.sums(worker);
    float* z = memory.panels.rows(worker);
    for (int64_t begin = task_begin; begin < task_end; begin += kernels.features_per_task) {
      PanelSource source;
      source.weights = weight + begin * k;
      source.stride = source.k = k;
      source.features = std::min(kernels.features_per_task, task_end - begin);
      source.is_first = begin == task_begin;
      source.following = task_end - begin - source.features;
      if (kernels.multiply_rows) {
        const int64_t row = first_group * kGroup, num_rows = std::min(count * kGroup, rows - row);
        const uint16_t* sources[kMaxTaskRows];
        for (int64_t r = 0; r < num_rows; ++r) sources[r] = bf16_row(args.x, first + row + r);
        kernels.multiply_rows(source, sources, num_rows, memory.panels.panel(worker), sums);
        for (int64_t r = 0; r < num_rows; ++r)
          finish(args, kernels, first + row + r, begin, source.features,
                 sums + r * kernels.features_per_task);
        continue;
      }
      multiply_range(kernels, source, memory.groups + first_group * pairs, count,
                     memory.panels.panel(worker), sums);
      const int64_t padded = round_up(source.features, feature_padding(kernels));
      for (int64_t g = 0; g < count; ++g) {
        const int64_t row = (first_group + g) * kGroup;
        kernels.transpose(sums + g * padded * kGroup, padded, z, padded);
        for (int64_t t = 0; t < std::min(kGroup, rows - row); ++t)
          finish(args, kernels, first + row + t, begin, source.features, z + t * padded);
      }
    }
  });
}

void decode(const LinearArgs& args, const MatmulKernels& kernels, Context& context, int64_t first,
            int64_t rows) {
  const int64_t n = args.weight.n, k = args.weight.k;
  Scratch scratch(context.scratch);
  const DecodeScratch memory(scratch, kernels, rows, k, context.pool.num_threads());
  for (int64_t row = 0; row < rows; ++row)
    kernels.prepare_dense(bf16_row(args.x, first + row), k, memory.x + row * memory.row_bytes);

  const auto* weight = reinterpret_cast<const uint16_t*>(args.weight.data);
  const int threads = context.pool.num_threads();
  int64_t per_task = rows <= kMaxDotRows ? kMostFeaturesPerDot : kFeaturesPerDot;
  while (per_task > kFeaturesPerDot && ceil_div(n, per_task) < kMinLargeTasks * threads)
    per_task /= 2;
  while (per_task > 12 && ceil_div(n, per_task) < 8 * threads) per_task /= 2;
  const auto tasks = static_cast<int>(ceil_div(n, per_task));
  context.pool.parallel_for(tasks, [&](int task, int worker) {
    const int64_t begin = task * per_task;
    const int64_t features = std::min(per_task, n - begin);
    float* z = memory.z + worker * kMaxDotRows * kMostFeaturesPerDot;
    for (int64_t row = 0; row < rows; row += kMaxDotRows) {
      const int64_t count = std::min(kMaxDotRows, rows - row);
      const void* x[kMaxDotRows] = {};
      for (int64_t r = 0; r < count; ++r) x[r] = memory.x + (row + r) * memory.row_bytes;
      kernels.dot_dense(weight + begin * k, features, k, x, static_cast<int>(count), z,
                        kMostFeaturesPerDot);
      for (int64_t r = 0; r < count; ++r)
        finish(args, kernels, first + row + r, begin, features, z + r * kMostFeaturesPerDot);
    }
  });
}

}  // namespace

int64_t linear_scratch_bytes_with(const MatmulKernels& kernels, const BackendLimits& limits,
                                  int num_threads) {
  const int64_t rows = std::min(limits.max_rows, kRowsPerPass);
  const int64_t k = std::max(
      {limits.hidden_size, limits.intermediate_size, limits.num_q_heads * limits.head_dim});
  Scratch for_prefill, for_decode;
  PrefillScratch(for_prefill, kernels, rows, k, num_threads);
  DecodeScratch(for_decode, kernels, rows, k, num_threads);
  return std::max(for_prefill.used_bytes(), for_decode.used_bytes());
}

int64_t linear_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads) {
  return linear_scratch_bytes_with(matmul_kernels(isa), limits, num_threads);
}

void linear_with(const MatmulKernels& kernels, const LinearArgs& args, Context& context) {
  MOXIE_CHECK(args.x.dtype == DType::kBF16, kInvalidArgument,
              "the CPU kernels take bf16 activations, not ", name(args.x.dtype));
  MOXIE_CHECK(args.out.dtype == DType::kBF16 || args.out.dtype == DType::kF32, kInvalidArgument,
              "linear writes BF16 or F32, not ", name(args.out.dtype));
  MOXIE_CHECK(!args.residual || args.residual.dtype == args.out.dtype, kInvalidArgument,
              "the residual must have the output's dtype ", name(args.out.dtype), ", not ",
              name(args.residual.dtype));
  MOXIE_CHECK(args.x.cols == args.weight.k && args.out.cols == args.weight.n &&
                  args.out.rows == args.x.rows,
              kInvalidArgument, "linear: x [", args.x.rows, ", ", args.x.cols, "] and weight [",
              args.weight.n, ", ", args.weight.k, "] do not make out [", args.out.rows, ", ",
              args.out.cols, "]");
  for (int64_t first = 0; first < args.x.rows; first += kRowsPerPass) {
    const int64_t rows = std::min(kRowsPerPass, args.x.rows - first);
    if (args.phase == Phase::kPrefill)
      prefill(args, kernels, context, first, rows);
    else
      decode(args, kernels, context, first, rows);
  }
}

void linear(const LinearArgs& args, Context& context) {
  linear_with(matmul_kernels(context.isa), args, context);
}

}  // namespace moxie::cpu
