#include "cpu/rms_norm.h"

#include "base/check.h"
#include "cpu/row_tasks.h"

namespace moxie::cpu {

void rms_norm(const RmsNormArgs& args, Context& context) {
  MOXIE_CHECK(args.x.dtype == DType::kBF16 && args.out.dtype == DType::kBF16, kUnsupported,
              "rms_norm on the CPU takes bf16 rows, got ", name(args.x.dtype), " and ",
              name(args.out.dtype));
  MOXIE_CHECK(args.x.rows == args.out.rows && args.x.cols == args.out.cols, kInvalidArgument,
              "rms_norm of [", args.x.rows, ", ", args.x.cols, "] cannot go into [", args.out.rows,
              ", ", args.out.cols, "]");
  const RmsNormKernel kernel = rms_norm_kernel(context.isa);
  const auto* x = static_cast<const bf16*>(args.x.data);
  auto* out = static_cast<bf16*>(args.out.data);
  for_each_row(context.pool, args.x.rows, [&](int64_t row) {
    kernel(x + row * args.x.stride, args.scale, args.epsilon, args.x.cols,
           out + row * args.out.stride);
  });
}

}  // namespace moxie::cpu
