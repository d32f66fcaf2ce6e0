#include "cpu/attention.h"

#include <algorithm>

#include "base/check.h"
#include "cpu/attention_tile.h"

namespace moxie::cpu {
namespace {

// Decode cuts the keys of a row at absolute multiples of this, if it sees more than twice as many.
constexpr int64_t kDecodeSplit = 512;

// Keys [begin, end) that the row at `position` sees, and how decode cuts them.
struct KeyRange {
  KeyRange(int64_t position, int64_t window)
      : begin(window > 0 ? std::max<int64_t>(0, position - window + 1) : 0), end(position + 1) {}

  int64_t num_splits() const {
    if (end - begin <= 2 * kDecodeSplit) return 1;
    return (end - 1) / kDecodeSplit - begin / kDecodeSplit + 1;
  }

  int64_t begin, end;
};

int64_t max_splits(int64_t max_context) { return max_context / kDecodeSplit + 2; }

int64_t tile_scratch_bytes(int64_t num_q_heads, int64_t num_kv_heads, int64_t head_dim) {
  const int64_t group = num_q_heads / num_kv_heads;
  return std::max(tile_scratch(kMaxTilePositions, group, head_dim).size,
                  tiled_scratch(kMaxTilePositions, group, head_dim).size);
}

// A call, taken apart.
struct Call {
  Call(const AttentionArgs& a, Context& c, const AttentionKernels& k)
      : args(a),
        context(c),
        kernels(k),
        group(static_cast<int>(a.num_q_heads / a.num_kv_heads)),
        head_dim(static_cast<int>(a.head_dim)),
        tile_bytes(tile_scratch_bytes(a.num_q_heads, a.num_kv_heads, a.head_dim)),
        partials(reinterpret_cast<float*>(c.scratch.data() + tile_bytes * c.pool.num_threads())),
        partial_size(partial_floats(group, head_dim)),
        max_partials((static_cast<int64_t>(c.scratch.size()) - tile_bytes * c.pool.num_threads()) /
                     (4 * partial_size)) {}

  AttentionTile tile(const SequenceRows& sequence, int64_t first, int64_t count, int64_t kv_head,
                     int worker) const {
    const int64_t row = sequence.first_row + first;
    const int64_t column = kv_head * group * head_dim;
    const int64_t cache = kv_head * sequence.kv.capacity * head_dim;
    AttentionTile t;
    t.q = static_cast<const bf16*>(args.q.data) + row * args.q.stride + column;
    t.q_stride = args.q.stride;
    t.k = static_cast<const bf16*>(sequence.kv.k) + cache;
    t.v = static_cast<const bf16*>(sequence.kv.v) + cache;
    t.capacity = sequence.kv.capacity;
    t.sinks = args.sinks + kv_head * group;
    t.sm_scale = args.sm_scale;
    t.first_position = sequence.start_position + first;
    t.num_positions = static_cast<int>(count);
    t.group = group;
    t.head_dim = head_dim;
    t.window = args.window;
    t.out = static_cast<bf16*>(args.out.data) + row * args.out.stride + column;
    t.out_stride = args.out.stride;
    t.scratch = context.scratch.data() + worker * tile_bytes;
    return t;
  }

  const AttentionArgs& args;
  Context& context;
  const AttentionKernels kernels;
  const int group, head_dim;
  const int64_t tile_bytes;
  float* const partials;
  const int64_t partial_size, max_partials;
};

void prefill(const Call& call) {
  const auto num_tiles = [](const SequenceRows& sequence) {
    return (sequence.num_rows + kMaxTilePositions - 1) / kMaxTilePositions;
  };
  int64_t num_tasks = 0;
  for (const SequenceRows& sequence : call.args.sequences)
    num_tasks += num_tiles(sequence) * call.args.num_kv_heads;
  call.context.pool.parallel_for(static_cast<int>(num_tasks), [&](int task, int worker) {
    int64_t index = task;
    for (const SequenceRows& sequence : call.args.sequences) {
      const int64_t tiles = num_tiles(sequence), tasks = tiles * call.args.num_kv_heads;
      if (index >= tasks) {
        index -= tasks;
        continue;
      }
      // Late positions see most keys: they go first, so that no long task is left for the end.
      const int64_t tile_idx = tiles - 1 - index / call.args.num_kv_heads;
      const int64_t first = tile_idx * kMaxTilePositions;
      const int64_t count = std::min<int64_t>(kMaxTilePositions, sequence.num_rows - first);
      call.kernels.attend_prefill(
          call.tile(sequence, first, count, index % call.args.num_kv_heads, worker));
      return;
    }
  });
}

// One row of a decode call, in the order of sequences and rows.
struct DecodeRow {
  const SequenceRows* sequence = nullptr;
  int64_t row = 0;  // within the sequence

  bool find_next(std::span<const SequenceRows> sequences) {
    if (sequence == nullptr) sequence = sequences.data(), row = -1;
    const SequenceRows* end = sequences.data() + sequences.size();
    for (++row; sequence != end && row >= sequence->num_rows; ++sequence) row = 0;
    return sequence != end;
  }
  int64_t position() const { return sequence->start_position + row; }
};

// Rows `first` .. whose partial sums fit into the scratch: `count` of them.
void decode_rows(const Call& call, const DecodeRow& first, int64_t count, int64_t num_tasks,
                 bool any_split) {
  const AttentionArgs& args = call.args;
  call.context.pool.parallel_for(static_cast<int>(num_tasks), [&](int task, int worker) {
    int64_t index = task;
    for (DecodeRow row = first;; row.find_next(args.sequences)) {
      const KeyRange keys(row.position(), args.window);
      const int64_t splits = keys.num_splits(), tasks = splits * args.num_kv_heads;
      if (index >= tasks) {
        index -= tasks;
        continue;
      }
      AttentionTile tile = call.tile(*row.sequence, row.row, 1, index / splits, worker);
      if (splits > 1) {
        const int64_t part = keys.begin / kDecodeSplit + index % splits;
        tile.key_begin = part * kDecodeSplit;
        tile.key_end = (part + 1) * kDecodeSplit;
        tile.partial = call.partials + task * call.partial_size;
      }
      call.kernels.attend_decode(tile);
      return;
    }
  });
  if (!any_split) return;
  const int num_merges = static_cast<int>(count * args.num_kv_heads);
  call.context.pool.parallel_for(num_merges, [&](int task, int worker) {
    const int64_t kv_head = task % args.num_kv_heads;
    int64_t partial = 0;
    DecodeRow row = first;
    for (int64_t i = 0; i < task / args.num_kv_heads; ++i) {
      partial += KeyRange(row.position(), args.window).num_splits() * args.num_kv_heads;
      row.find_next(args.sequences);
    }
    const int64_t splits = KeyRange(row.position(), args.window).num_splits();
    if (splits == 1) return;
    const AttentionTile tile = call.tile(*row.sequence, row.row, 1, kv_head, worker);
    call.kernels.merge(
        {.partials = call.partials + (partial + kv_head * splits) * call.partial_size,
         .num_partials = static_cast<int>(splits),
         .sinks = tile.sinks,
         .group = call.group,
         .head_dim = call.head_dim,
         .out = tile.out});
  });
}

void decode(const Call& call) {
  DecodeRow row;
  bool more = row.find_next(call.args.sequences);
  while (more) {
    const DecodeRow first = row;
    int64_t count = 0, num_tasks = 0;
    bool any_split = false;
    do {
      const int64_t splits = KeyRange(row.position(), call.args.window).num_splits();
      const int64_t tasks = splits * call.args.num_kv_heads;
      if (count > 0 && num_tasks + tasks > call.max_partials) break;
      num_tasks += tasks;
      any_split |= splits > 1;
      ++count;
      more = row.find_next(call.args.sequences);
    } while (more);
    decode_rows(call, first, count, num_tasks, any_split);
  }
}

void check(const AttentionArgs& args, const Context& context) {
  MOXIE_CHECK(args.q.dtype == DType::kBF16 && args.out.dtype == DType::kBF16, kUnsupported,
              "attention on the CPU takes bf16 rows, got ", name(args.q.dtype), " and ",
              name(args.out.dtype));
  MOXIE_CHECK(args.num_kv_heads > 0 && args.num_q_heads % args.num_kv_heads == 0, kInvalidArgument,
              "query heads must be a multiple of key-value heads, got ", args.num_q_heads, " and ",
              args.num_kv_heads);
  MOXIE_CHECK(args.head_dim > 0 && args.head_dim % 2 == 0, kInvalidArgument,
              "head_dim must be even, got ", args.head_dim);
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t end = sequence.start_position + sequence.num_rows;
    const int64_t needed =
        args.window > 0 ? std::min(end, args.window - 1 + sequence.num_rows) : end;
    MOXIE_CHECK(sequence.kv.capacity >= needed, kInvalidArgument, "a key-value cache of ",
                sequence.kv.capacity, " slots cannot hold the ", needed,
                " positions that attention reads");
    MOXIE_CHECK(sequence.first_row >= 0 &&
                    sequence.first_row + sequence.num_rows <= std::min(args.q.rows, args.out.rows),
                kInvalidArgument, "a sequence's rows end at ",
                sequence.first_row + sequence.num_rows, ", but the matrix has ", args.q.rows);
  }
  const BackendLimits& limits = context.limits;
  MOXIE_CHECK(args.num_q_heads <= limits.num_q_heads && args.head_dim <= limits.head_dim &&
                  args.num_q_heads * args.head_dim <= limits.num_q_heads * limits.head_dim,
              kInvalidArgument, "attention over ", args.num_q_heads, " heads of ", args.head_dim,
              " was not reserved for");
}

}  // namespace

int64_t attention_scratch_bytes(const BackendLimits& limits, Isa, int num_threads) {
  if (limits.num_kv_heads == 0) return 0;
  const int64_t group = limits.num_q_heads / limits.num_kv_heads;
  return num_threads *
             tile_scratch_bytes(limits.num_q_heads, limits.num_kv_heads, limits.head_dim) +
         limits.num_kv_heads * max_splits(limits.max_context) *
             partial_floats(group, limits.head_dim) * 4;
}

void attention(const AttentionArgs& args, Context& context) {
  attention_with(attention_kernels(context.isa, args.head_dim), args, context);
}

void attention_with(const AttentionKernels& kernels, const AttentionArgs& args, Context& context) {
  check(args, context);
  const Call call(args, context, kernels);
  if (args.phase == Phase::kPrefill)
    prefill(call);
  else
    decode(call);
}

}  // namespace moxie::cpu
