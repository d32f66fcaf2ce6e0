#include "cpu/embed.h"

#include <cstring>

#include "base/check.h"
#include "cpu/row_tasks.h"

namespace moxie::cpu {

void embed(const EmbedArgs& args, Context& context) {
  MOXIE_CHECK(args.out.dtype == DType::kBF16, kUnsupported,
              "embed on the CPU writes bf16 rows, got ", name(args.out.dtype));
  MOXIE_CHECK(
      args.out.rows == static_cast<int64_t>(args.tokens.size()) && args.out.cols == args.table.k,
      kInvalidArgument, "embed of ", args.tokens.size(), " tokens into rows of ", args.table.k,
      " cannot go into [", args.out.rows, ", ", args.out.cols, "]");
  for (const int32_t token : args.tokens) {
    MOXIE_CHECK(token >= 0 && token < args.table.n, kInvalidArgument, "token ", token,
                " is outside the vocabulary of ", args.table.n);
  }
  for_each_row(context.pool, args.out.rows, [&](int64_t row) {
    std::memcpy(static_cast<bf16*>(args.out.data) + row * args.out.stride,
                args.table.data + args.tokens[static_cast<size_t>(row)] * args.table.k,
                static_cast<size_t>(args.table.k) * sizeof(bf16));
  });
}

}  // namespace moxie::cpu
