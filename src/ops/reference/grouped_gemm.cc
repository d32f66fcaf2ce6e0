#include "ops/reference/grouped_gemm.h"

#include "base/check.h"
#include "base/thread_pool.h"
#include "ops/reference/weights.h"

namespace moxie {
namespace {

// One entry that is not skipped.
struct Entry {
  int64_t index, from, to;
};

std::vector<Entry> entries_of(const GroupedGemmArgs& args, int64_t expert,
                              std::vector<bool>& taken) {
  const auto pick = [](std::span<const int32_t> list, int64_t r) {
    return list.empty() ? r : int64_t{list[static_cast<size_t>(r)]};
  };
  const int64_t begin = args.row_offsets[static_cast<size_t>(expert)];
  const int64_t end = args.row_offsets[static_cast<size_t>(expert) + 1];
  MOXIE_CHECK(begin <= end && end <= args.rows && (expert > 0 || begin == 0), kInvalidArgument,
              "row_offsets of expert ", expert, " are ", begin, " and ", end,
              "; they must rise from 0 to at most ", args.rows);
  std::vector<Entry> entries;
  for (int64_t r = begin; r < end; ++r) {
    const Entry entry = {r, pick(args.gather, r), pick(args.scatter, r)};
    if (entry.from < 0 || entry.from >= args.x.rows) continue;
    if (entry.to < 0 || entry.to >= args.out.rows) continue;
    MOXIE_CHECK(!taken[static_cast<size_t>(entry.to)], kInvalidArgument,
                "two entries of grouped_gemm lead to row ", entry.to);
    taken[static_cast<size_t>(entry.to)] = true;
    entries.push_back(entry);
  }
  return entries;
}

}  // namespace

std::vector<Bounded> reference_grouped_gemm(const GroupedGemmArgs& args, int num_threads) {
  const Mxfp4Matrices& weight = args.weight;
  const int64_t k = weight.k;
  const bool swiglu_pairs = args.activation == GroupedGemmArgs::Activation::kSwiglu;
  std::vector<Bounded> out(static_cast<size_t>(args.out.rows * args.out.cols), kUntouched);
  std::vector<bool> taken(static_cast<size_t>(args.out.rows));
  ThreadPool pool(num_threads);
  for (int64_t e = 0; e < weight.experts; ++e) {
    const std::vector<Entry> entries = entries_of(args, e, taken);
    if (entries.empty()) continue;
    std::vector<float> x(entries.size() * static_cast<size_t>(k));
    for (size_t r = 0; r < entries.size(); ++r)
      for (int64_t i = 0; i < k; ++i)
        x[r * static_cast<size_t>(k) + static_cast<size_t>(i)] =
            to_float(static_cast<const bf16*>(args.x.data)[entries[r].from * args.x.stride + i]);
    std::vector<double> quanta(entries.size());
    for (size_t r = 0; r < entries.size(); ++r)
      quanta[r] =
          quantum_of(std::span(x).subspan(r * static_cast<size_t>(k), static_cast<size_t>(k)));
    pool.parallel_for(static_cast<int>(args.out.cols), [&](int col, int) {
      std::vector<float> row(static_cast<size_t>(k)), up_row(swiglu_pairs ? row.size() : 0);
      const int64_t feature = swiglu_pairs ? 2 * int64_t{col} : col;
      const auto bias = [&](int64_t f) {
        return args.bias == nullptr ? 0.0f : args.bias[e * weight.n + f];
      };
      decode_weight_row(weight, args.layout, e, feature, DType::kBF16, row.data());
      if (swiglu_pairs)
        decode_weight_row(weight, args.layout, e, feature + 1, DType::kBF16, up_row.data());
      const double quantum = quantum_of(row), up_quantum = quantum_of(up_row);
      for (size_t r = 0; r < entries.size(); ++r) {
        const auto product = [&](const std::vector<float>& weights, double of_weights, int64_t f) {
          ExactDot dot = exact_dot(x.data() + r * static_cast<size_t>(k), weights.data(), k);
          dot.quantum = of_weights * quanta[r];
          return biased_dot(dot, k, bias(f));
        };
        Bounded z = product(row, quantum, feature);
        if (swiglu_pairs)
          z = swiglu(z, product(up_row, up_quantum, feature + 1), args.alpha, args.limit);
        if (!args.row_weights.empty())
          z = times(z, args.row_weights[static_cast<size_t>(entries[r].index)]);
        out[static_cast<size_t>(entries[r].to * args.out.cols + col)] = rounded(DType::kBF16, z);
      }
    });
  }
  return out;
}

}  // namespace moxie
