#include "cpu/moe.h"

#include <algorithm>

#include "base/check.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"
#include "cpu/matmul_prefill.h"
#include "cpu/scratch.h"

namespace moxie::cpu {
namespace {

// More rows are taken in several passes, which bounds scratch.
constexpr int64_t kPrefillRowsPerPass = 1024, kDecodeRowsPerPass = 256;
constexpr int kMinTasksPerThread = 8;

// Some rows of a call.
struct Pass {
  const MoeArgs& args;
  const MatmulKernels& kernels;
  Context& context;
  int64_t first, rows;

  int64_t hidden() const { return args.gate_up.k; }
  int64_t inner() const { return args.down.k; }
  int64_t chosen() const { return args.experts_per_token; }
  int64_t experts() const { return args.gate_up.experts; }
  int num_threads() const { return context.pool.num_threads(); }
  const uint16_t* x_row(int64_t row) const {
    return static_cast<const uint16_t*>(args.x.data) + (first + row) * args.x.stride;
  }
  float weight(int64_t slot) const {
    return args.weights[static_cast<size_t>(first * chosen() + slot)];
  }
};

// The slots (row * chosen + i) of a pass, grouped by expert in rising order. For each expert: its
// first entry, its first group of kGroup entries, and its first task.
struct Routing {
  int32_t* slots;       // [entries]
  int32_t* entries;     // [experts + 1]
  int32_t* groups;      // [experts + 1]
  int32_t* first_task;  // [experts + 1]
  int64_t experts;

  Routing(Scratch& scratch, int64_t num_entries, int64_t num_experts)
      : slots(scratch.take<int32_t>(num_entries)),
        entries(scratch.take<int32_t>(num_experts + 1)),
        groups(scratch.take<int32_t>(num_experts + 1)),
        first_task(scratch.take<int32_t>(num_experts + 1)),
        experts(num_experts) {}

  // The local number of the expert that a slot is for, or -1.
  static int64_t local_expert(const Pass& pass, int64_t slot) {
    const auto at = static_cast<size_t>(pass.first * pass.chosen() + slot);
    const int64_t e = pass.args.expert_ids[at] - pass.args.first_expert;
    return e >= 0 && e < pass.experts() ? e : -1;
  }

  // `y` [slots][hidden] is made zero for slots of foreign experts, which no task writes.
  void sort(const Pass& pass, uint16_t* y) {
    const int64_t count = pass.rows * pass.chosen();
    std::fill_n(entries, experts + 1, 0);
    for (int64_t slot = 0; slot < count; ++slot) {
      if (const int64_t e = local_expert(pass, slot); e >= 0)
        ++entries[e + 1];
      else
        std::fill_n(y + slot * pass.hidden(), pass.hidden(), uint16_t{0});
    }
    for (int64_t e = 0; e < experts; ++e) entries[e + 1] += entries[e];
    for (int64_t slot = 0; slot < count; ++slot)
      if (const int64_t e = local_expert(pass, slot); e >= 0)
        slots[entries[e]++] = static_cast<int32_t>(slot);
    for (int64_t e = experts; e > 0; --e) entries[e] = entries[e - 1];
    entries[0] = 0;
    groups[0] = 0;
    for (int64_t e = 0; e < experts; ++e)
      groups[e + 1] = groups[e] + static_cast<int32_t>(ceil_div(num_entries(e), kGroup));
  }

  int64_t num_entries(int64_t e) const { return entries[e + 1] - entries[e]; }
  int64_t num_groups(int64_t e) const { return groups[e + 1] - groups[e]; }

  // `chunks` tasks for each block of per_task groups (or for each expert that has any, when
  // per_task is 0); returns their number.
  int number_tasks(int64_t chunks, int64_t per_task) {
    first_task[0] = 0;
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t blocks =
          per_task > 0 ? ceil_div(num_groups(e), per_task) : (num_entries(e) > 0 ? 1 : 0);
      first_task[e + 1] = first_task[e] + static_cast<int32_t>(chunks * blocks);
    }
    return first_task[experts];
  }
  int64_t expert_of(int task) const {
    return std::upper_bound(first_task, first_task + experts + 1, task) - first_task - 1;
  }
};

// At most this many groups: each expert's last one may be almost empty.
int64_t max_groups(int64_t entries, int64_t experts) {
  return entries / kGroup + std::min(experts, entries);
}

struct PrefillScratch {
  Routing routing;
  uint32_t* x = nullptr;       // [groups][hidden / 2][kGroup] pairs
  uint32_t* a = nullptr;       // [groups][inner / 2][kGroup] pairs
  uint16_t* a_rows = nullptr;  // with multiply_rows instead of both: [entries][inner] bf16
  uint16_t* y = nullptr;       // [slots][hidden]
  PanelScratch panels;

  PrefillScratch(Scratch& scratch, const MatmulKernels& kernels, int64_t entries, int64_t experts,
                 int64_t hidden, int64_t inner, int num_threads)
      : routing(scratch, entries, experts), panels(scratch, kernels, num_threads) {
    if (kernels.multiply_rows) {
      a_rows = scratch.take<uint16_t>(entries * inner);
    } else {
      x = scratch.take<uint32_t>(max_groups(entries, experts) * group_pairs(hidden));
      a = scratch.take<uint32_t>(max_groups(entries, experts) * group_pairs(inner));
    }
    y = scratch.take<uint16_t>(entries * hidden);
  }
};

struct DecodeScratch {
  Routing routing;
  int64_t x_row_bytes, a_row_bytes;
  uint8_t* x;           // prepared rows
  uint16_t* a;          // [entries][inner] bf16
  uint8_t* prepared_a;  // [entries], prepared
  uint16_t* y;          // [slots][hidden]
  float* z;

  DecodeScratch(Scratch& scratch, const MatmulKernels& kernels, int64_t rows, int64_t chosen,
                int64_t experts, int64_t hidden, int64_t inner, int num_threads)
      : routing(scratch, rows * chosen, experts),
        x_row_bytes(hidden * kernels.x_element_bytes + kernels.x_extra_bytes),
        a_row_bytes(inner * kernels.x_element_bytes + kernels.x_extra_bytes),
        x(scratch.take<uint8_t>(rows * x_row_bytes)),
        a(scratch.take<uint16_t>(rows * chosen * inner)),
        prepared_a(scratch.take<uint8_t>(rows * chosen * a_row_bytes)),
        y(scratch.take<uint16_t>(rows * chosen * hidden)),
        z(scratch.take<float>(num_threads * kMaxDotRows * kernels.features_per_dot)) {}
};

void combine(const Pass& pass, const uint16_t* y) {
  const MoeArgs& args = pass.args;
  const int64_t hidden = pass.hidden();
  pass.context.pool.parallel_for(static_cast<int>(pass.rows), [&](int row, int) {
    const int64_t at = pass.first + row;
    const auto* residual = static_cast<const uint16_t*>(args.residual.data);
    pass.kernels.combine(y + row * pass.chosen() * hidden, pass.chosen(), hidden,
                         residual ? residual + at * args.residual.stride : nullptr,
                         static_cast<uint16_t*>(args.out.data) + at * args.out.stride, hidden);
  });
}

// Calls range(e, source, first group, groups, worker) for each range of features of each task.
template <class Range>
void for_each_range(const Pass& pass, Routing& routing, const Mxfp4Matrices& weights,
                    const Range& range) {
  const MatmulKernels& kernels = pass.kernels;
  const int64_t k_blocks = weights.k / 32, per_task = kernels.mxfp4_groups;
  const int64_t task_n =
      task_features(kernels, weights.n, routing.number_tasks(1, per_task), pass.num_threads());
  const int64_t chunks = ceil_div(weights.n, task_n);
  const int tasks = routing.number_tasks(chunks, per_task);
  pass.context.pool.parallel_for(tasks, [&](int task, int worker) {
    const int64_t e = routing.expert_of(task), index = task - routing.first_task[e];
    const int64_t task_begin = index % chunks * task_n;
    const int64_t task_end = std::min(weights.n, task_begin + task_n);
    const int64_t group = index / chunks * per_task;
    const int64_t count = std::min(per_task, routing.num_groups(e) - group);
    for (int64_t begin = task_begin; begin < task_end; begin += kernels.features_per_task) {
      PanelSource source;
      source.weights = weights.expert_codes(e) + begin * k_blocks * 16;
      source.scales = weights.expert_scales(e) + begin * k_blocks;
      source.stride = k_blocks;
      source.k = weights.k;
      source.features = std::min(kernels.features_per_task, task_end - begin);
      source.is_first = begin == task_begin;
      source.following = task_end - begin - source.features;
      range(e, begin, source, group, count, worker);
    }
  });
}

// Products of all experts with their groups of `x`. finish(e, first feature, features, first group,
// groups, padded features, sums, worker) follows each range of features.
template <class Finish>
void multiply_experts(const Pass& pass, Routing& routing, const PanelScratch& panels,
                      const Mxfp4Matrices& weights, const uint32_t* x, const Finish& finish) {
  const MatmulKernels& kernels = pass.kernels;
  const int64_t pairs = group_pairs(weights.k);
  for_each_range(pass, routing, weights,
                 [&](int64_t e, int64_t begin, const PanelSource& source, int64_t group,
                     int64_t count, int worker) {
                   const int64_t first_group = routing.groups[e] + group;
                   float* sums = panels.sums(worker);
                   multiply_range(kernels, source, x + first_group * pairs, count,
                                  panels.panel(worker), sums);
                   finish(e, begin, source.features, first_group, count,
                          round_up(source.features, feature_padding(kernels)), sums, worker);
                 });
}

// The same with rows, of which row_of(entry) is one: finish(entry, e, first feature, features, z)
// follows for each.
template <class RowOf, class Finish>
void multiply_expert_rows(const Pass& pass, Routing& routing, const PanelScratch& panels,
                          const Mxfp4Matrices& weights, const RowOf& row_of, const Finish& finish) {
  const MatmulKernels& kernels = pass.kernels;
  for_each_range(
      pass, routing, weights,
      [&](int64_t e, int64_t begin, const PanelSource& source, int64_t group, int64_t count,
          int worker) {
        const int64_t first = routing.entries[e] + group * kGroup;
        const int64_t num_rows = std::min(count * kGroup, routing.entries[e + 1] - first);
        const uint16_t* rows[kMaxTaskRows];
        for (int64_t r = 0; r < num_rows; ++r) rows[r] = row_of(first + r);
        float* sums = panels.sums(worker);
        kernels.multiply_rows(source, rows, num_rows, panels.panel(worker), sums);
        for (int64_t r = 0; r < num_rows; ++r)
          finish(first + r, e, begin, source.features, sums + r * kernels.features_per_task);
      });
}

// Where the pairs made from gate and up features `feature` .. stand among those of their token.
int64_t first_pair(const MatmulKernels& kernels, int64_t feature) {
  return kernels.lookup_order ? feature / 64 * 16 + feature % 64 / 16 : feature / 4;
}

void prefill_rows(const Pass& pass, PrefillScratch& memory) {
  const MoeArgs& args = pass.args;
  const MatmulKernels& kernels = pass.kernels;
  const int64_t hidden = pass.hidden(), inner = pass.inner();
  Routing& routing = memory.routing;
  multiply_expert_rows(
      pass, routing, memory.panels, args.gate_up,
      [&](int64_t entry) { return pass.x_row(routing.slots[entry] / pass.chosen()); },
      [&](int64_t entry, int64_t e, int64_t begin, int64_t features, const float* z) {
        kernels.swiglu(z, args.gate_up_bias + e * 2 * inner + begin, args.alpha, args.limit,
                       features / 2, memory.a_rows + entry * inner + begin / 2);
      });
  multiply_expert_rows(
      pass, routing, memory.panels, args.down,
      [&](int64_t entry) { return memory.a_rows + entry * inner; },
      [&](int64_t entry, int64_t e, int64_t begin, int64_t features, const float* z) {
        const int64_t slot = routing.slots[entry];
        kernels.finish_bf16(z, args.down_bias + e * hidden + begin, pass.weight(slot), nullptr,
                            memory.y + slot * hidden + begin, features);
      });
}

void prefill_groups(const Pass& pass, PrefillScratch& memory) {
  const MoeArgs& args = pass.args;
  const MatmulKernels& kernels = pass.kernels;
  const int64_t hidden = pass.hidden(), inner = pass.inner(), chosen = pass.chosen();
  Routing& routing = memory.routing;

  const int64_t x_pairs = group_pairs(hidden), a_pairs = group_pairs(inner);
  routing.number_tasks(1, 1);  // a task for each group
  pass.context.pool.parallel_for(routing.groups[routing.experts], [&](int g, int) {
    const int64_t e = routing.expert_of(g);
    const int64_t entry = routing.entries[e] + (g - routing.groups[e]) * kGroup;
    const uint16_t* sources[kGroup] = {};
    for (int64_t t = 0; t < std::min<int64_t>(kGroup, routing.entries[e + 1] - entry); ++t)
      sources[t] = pass.x_row(routing.slots[entry + t] / chosen);
    kernels.pack_group_mxfp4(sources, hidden, memory.x + g * x_pairs);
  });

  multiply_experts(pass, routing, memory.panels, args.gate_up, memory.x,
                   [&](int64_t e, int64_t begin, int64_t features, int64_t group, int64_t count,
                       int64_t padded, const float* sums, int) {
                     const float* bias = args.gate_up_bias + e * 2 * inner + begin;
                     uint32_t* out =
                         memory.a + group * a_pairs + first_pair(kernels, begin) * kGroup;
                     for (int64_t g = 0; g < count; ++g)
                       kernels.swiglu_pairs(sums + g * padded * kGroup, bias, args.alpha,
                                            args.limit, features / 4, out + g * a_pairs);
                   });

  multiply_experts(
      pass, routing, memory.panels, args.down, memory.a,
      [&](int64_t e, int64_t begin, int64_t features, int64_t group, int64_t count, int64_t padded,
          const float* sums, int worker) {
        float* z = memory.panels.rows(worker);
        const float* bias = args.down_bias + e * hidden + begin;
        for (int64_t g = 0; g < count; ++g) {
          kernels.transpose(sums + g * padded * kGroup, padded, z, padded);
          const int64_t entry = routing.entries[e] + (group + g - routing.groups[e]) * kGroup;
          const int64_t tokens = std::min<int64_t>(kGroup, routing.entries[e + 1] - entry);
          for (int64_t t = 0; t < tokens; ++t) {
            const int64_t slot = routing.slots[entry + t];
            kernels.finish_bf16(z + t * padded, bias, pass.weight(slot), nullptr,
                                memory.y + slot * hidden + begin, features);
          }
        }
      });
}

void prefill(const Pass& pass) {
  Scratch scratch(pass.context.scratch);
  PrefillScratch memory(scratch, pass.kernels, pass.rows * pass.chosen(), pass.experts(),
                        pass.hidden(), pass.inner(), pass.num_threads());
  memory.routing.sort(pass, memory.y);
  if (pass.kernels.multiply_rows)
    prefill_rows(pass, memory);
  else
    prefill_groups(pass, memory);
  combine(pass, memory.y);
}

// Calls finish(entry, expert, first feature, features, z) after the dot products of each task.
// row_of(entry) is the prepared activation row.
template <class RowOf, class Finish>
void for_each_dot(const Pass& pass, Routing& routing, const Mxfp4Matrices& weights, float* z_all,
                  const RowOf& row_of, const Finish& finish) {
  const int threads = pass.num_threads();
  const int64_t blocks = weights.k / 32, most = pass.kernels.features_per_dot;
  int64_t per_task = most;
  while (per_task > 64 &&
         routing.number_tasks(ceil_div(weights.n, per_task), 0) < kMinTasksPerThread * threads)
    per_task = round_up(per_task / 2, 16);
  const int tasks = routing.number_tasks(ceil_div(weights.n, per_task), 0);
  pass.context.pool.parallel_for(tasks, [&](int task, int worker) {
    const int64_t e = routing.expert_of(task);
    const int64_t begin = (task - routing.first_task[e]) * per_task;
    const int64_t features = std::min(per_task, weights.n - begin);
    float* z = z_all + worker * kMaxDotRows * most;
    for (int64_t entry = routing.entries[e]; entry < routing.entries[e + 1]; entry += kMaxDotRows) {
      const int64_t count = std::min(kMaxDotRows, routing.entries[e + 1] - entry);
      const void* rows[kMaxDotRows] = {};
      for (int64_t r = 0; r < count; ++r) rows[r] = row_of(entry + r);
      pass.kernels.dot_mxfp4(weights.expert_codes(e) + begin * blocks * 16,
                             weights.expert_scales(e) + begin * blocks, features, weights.k, rows,
                             static_cast<int>(count), z, most);
      for (int64_t r = 0; r < count; ++r) finish(entry + r, e, begin, features, z + r * most);
    }
  });
}

void decode(const Pass& pass) {
  const MoeArgs& args = pass.args;
  const MatmulKernels& kernels = pass.kernels;
  const int64_t hidden = pass.hidden(), inner = pass.inner(), chosen = pass.chosen();
  Scratch scratch(pass.context.scratch);
  DecodeScratch memory(scratch, kernels, pass.rows, chosen, pass.experts(), hidden, inner,
                       pass.num_threads());
  Routing& routing = memory.routing;
  routing.sort(pass, memory.y);
  for (int64_t row = 0; row < pass.rows; ++row)
    kernels.prepare_mxfp4(pass.x_row(row), hidden, memory.x + row * memory.x_row_bytes);

  for_each_dot(
      pass, routing, args.gate_up, memory.z,
      [&](int64_t entry) { return memory.x + routing.slots[entry] / chosen * memory.x_row_bytes; },
      [&](int64_t entry, int64_t e, int64_t begin, int64_t features, const float* z) {
        kernels.swiglu(z, args.gate_up_bias + e * 2 * inner + begin, args.alpha, args.limit,
                       features / 2, memory.a + entry * inner + begin / 2);
      });

  pass.context.pool.parallel_for(routing.entries[routing.experts], [&](int entry, int) {
    kernels.prepare_mxfp4(memory.a + entry * inner, inner,
                          memory.prepared_a + entry * memory.a_row_bytes);
  });

  for_each_dot(
      pass, routing, args.down, memory.z,
      [&](int64_t entry) { return memory.prepared_a + entry * memory.a_row_bytes; },
      [&](int64_t entry, int64_t e, int64_t begin, int64_t features, const float* z) {
        const int64_t slot = routing.slots[entry];
        kernels.finish_bf16(z, args.down_bias + e * hidden + begin, pass.weight(slot), nullptr,
                            memory.y + slot * hidden + begin, features);
      });
  combine(pass, memory.y);
}

}  // namespace

int64_t moe_scratch_bytes_with(const MatmulKernels& kernels, const BackendLimits& limits,
                               int num_threads) {
  Scratch for_prefill, for_decode;
  PrefillScratch(for_prefill, kernels,
                 std::min(limits.max_rows, kPrefillRowsPerPass) * limits.experts_per_token,
                 limits.num_experts, limits.hidden_size, limits.intermediate_size, num_threads);
  DecodeScratch(for_decode, kernels, std::min(limits.max_rows, kDecodeRowsPerPass),
                limits.experts_per_token, limits.num_experts, limits.hidden_size,
                limits.intermediate_size, num_threads);
  return std::max(for_prefill.used_bytes(), for_decode.used_bytes());
}

int64_t moe_scratch_bytes(const BackendLimits& limits, Isa isa, int num_threads) {
  return moe_scratch_bytes_with(matmul_kernels(isa), limits, num_threads);
}

void moe_with(const MatmulKernels& kernels, const MoeArgs& args, Context& context) {
  const int64_t rows = args.x.rows, hidden = args.gate_up.k, inner = args.down.k;
  MOXIE_CHECK(args.x.dtype == DType::kBF16 && args.out.dtype == DType::kBF16 &&
                  (!args.residual || args.residual.dtype == DType::kBF16),
              kInvalidArgument, "the CPU kernels take bf16 activations");
  MOXIE_CHECK(hidden % 32 == 0 && inner % 32 == 0, kInvalidArgument,
              "hidden and inner must be multiples of 32, got ", hidden, " and ", inner);
  MOXIE_CHECK(args.x.cols == hidden && args.out.cols == hidden && args.out.rows == rows &&
                  args.down.n == hidden && args.gate_up.n == 2 * inner &&
                  args.down.experts == args.gate_up.experts,
              kInvalidArgument, "moe: x [", rows, ", ", args.x.cols, "], gate_up [",
              args.gate_up.experts, ", ", args.gate_up.n, ", ", hidden, "], down [",
              args.down.experts, ", ", args.down.n, ", ", inner, "] and out [", args.out.rows, ", ",
              args.out.cols, "] do not fit together");
  const auto slots = static_cast<size_t>(rows * args.experts_per_token);
  MOXIE_CHECK(args.expert_ids.size() == slots && args.weights.size() == slots, kInvalidArgument,
              "moe: expected ", slots, " expert ids and weights, got ", args.expert_ids.size(),
              " and ", args.weights.size());
  MOXIE_CHECK(!args.logits, kUnsupported,
              "the CPU's moe takes the choice of route, expert_ids and weights, not logits");
  MOXIE_CHECK(args.layout == Mxfp4Layout::kCheckpoint, kUnsupported,
              "the CPU kernels read weights in the checkpoint's layout, not prepacked ones");
  MOXIE_CHECK(args.gate_up_bias != nullptr && args.down_bias != nullptr, kUnsupported,
              "the CPU kernels need the biases of moe; give zeros where there are none");
  check_expert_ids(args);
  check_bf16_activations(args);
  const bool is_prefill = args.phase == Phase::kPrefill;
  const int64_t per_pass = is_prefill ? kPrefillRowsPerPass : kDecodeRowsPerPass;
  for (int64_t first = 0; first < rows; first += per_pass) {
    const Pass pass{args, kernels, context, first, std::min(per_pass, rows - first)};
    if (is_prefill)
      prefill(pass);
    else
      decode(pass);
  }
}

void moe(const MoeArgs& args, Context& context) {
  moe_with(matmul_kernels(context.isa), args, context);
}

}  // namespace moxie::cpu
