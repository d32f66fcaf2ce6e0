#include "ops/prepack.h"

#include "ops/check_views.h"

namespace moxie {

void check(const PrepackArgs& args) {
  const bool forward = args.to == Mxfp4Layout::kPrepacked;
  MOXIE_CHECK(forward || args.to == Mxfp4Layout::kCheckpoint, kInvalidArgument,
              "the layout to permute weights to is ", static_cast<int>(args.to), ", which is none");
  // Either way one of the two orders is the prepacked one, which asks for more.
  check_weight(forward ? "prepack" : "unpack", "weight",
               {args.codes, args.scales, args.experts, args.n, args.k}, Mxfp4Layout::kPrepacked);
}

}  // namespace moxie
