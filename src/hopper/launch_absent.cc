// Linked instead of launch.cc where moxie is built without CUDA.
#include "base/check.h"
#include "hopper/launch.h"

namespace moxie::hopper {
namespace {

[[noreturn]] void refuse(const char* op) {
  throw make_error(ErrorCode::kUnsupported, op,
                   " needs a Hopper GPU, but this moxie was built without CUDA; build it again "
                   "where nvcc is installed");
}

}  // namespace

int64_t launch_workspace_bytes(const MoeShape&) { refuse("moe"); }
int64_t launch_workspace_bytes(const GroupedGemmShape&) { refuse("grouped_gemm"); }
int64_t launch_workspace_bytes(const LinearShape&) { refuse("mxfp4_linear"); }
int64_t launch_workspace_bytes(const RouteShape&) { refuse("route"); }

void launch(const MoeArgs&, const Workspace&, StreamHandle) { refuse("moe"); }
void launch(const ::moxie::GroupedGemmArgs&, const Workspace&, StreamHandle) {
  refuse("grouped_gemm");
}
void launch(const Mxfp4LinearArgs&, const Workspace&, StreamHandle) { refuse("mxfp4_linear"); }
void launch(const RouteArgs&, const Workspace&, StreamHandle) { refuse("route"); }
void launch(const RowListsArgs&, const Workspace&, StreamHandle) { refuse("route"); }
void launch(const ::moxie::PrepackArgs& args, StreamHandle) {
  refuse(args.to == Mxfp4Layout::kPrepacked ? "prepack" : "unpack");
}
void launch(const QuantizeMxfp4Args&, StreamHandle) { refuse("quantize_mxfp4"); }
void launch(const DequantizeMxfp4Args&, StreamHandle) { refuse("dequantize_mxfp4"); }

}  // namespace moxie::hopper
