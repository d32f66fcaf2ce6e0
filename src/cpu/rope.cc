#include "cpu/rope.h"

#include <cstring>

#include "base/check.h"
#include "cpu/row_tasks.h"

namespace moxie::cpu {

void rope(const RopeArgs& args, Context& context) {
  const int64_t num_heads = args.num_q_heads + 2 * args.num_kv_heads;
  MOXIE_CHECK(args.qkv.dtype == DType::kBF16, kUnsupported, "rope on the CPU takes bf16 rows, got ",
              name(args.qkv.dtype));
  MOXIE_CHECK(args.head_dim > 0 && args.head_dim % 2 == 0, kInvalidArgument,
              "head_dim must be even, got ", args.head_dim);
  MOXIE_CHECK(args.qkv.cols == num_heads * args.head_dim, kInvalidArgument,
              "rows of q, k and v need ", num_heads * args.head_dim, " columns, got ",
              args.qkv.cols);
  const RopeKernel kernel = rope_kernel(context.isa, args.head_dim);
  const int64_t head_dim = args.head_dim, half = head_dim / 2;
  for (const SequenceRows& sequence : args.sequences) {
    const KvView& kv = sequence.kv;
    MOXIE_CHECK(sequence.num_rows <= kv.capacity, kInvalidArgument, "a key-value cache of ",
                kv.capacity, " slots cannot take ", sequence.num_rows, " positions at once");
    for_each_row(context.pool, sequence.num_rows, [&](int64_t i) {
      const int64_t row = sequence.first_row + i;
      bf16* q = static_cast<bf16*>(args.qkv.data) + row * args.qkv.stride;
      bf16* k = q + args.num_q_heads * head_dim;
      const bf16* v = k + args.num_kv_heads * head_dim;
      kernel(q, args.num_q_heads + args.num_kv_heads, head_dim, args.cos + row * half,
             args.sin + row * half);
      const int64_t slot = (sequence.start_position + i) % kv.capacity;
      for (int64_t head = 0; head < args.num_kv_heads; ++head) {
        const int64_t at = (head * kv.capacity + slot) * head_dim;
        const size_t bytes = static_cast<size_t>(head_dim) * sizeof(bf16);
        std::memcpy(static_cast<bf16*>(kv.k) + at, k + head * head_dim, bytes);
        std::memcpy(static_cast<bf16*>(kv.v) + at, v + head * head_dim, bytes);
      }
    });
  }
}

}  // namespace moxie::cpu
