// What ops.cc needs of the GPU: launch.cc, or launch_absent.cc in a build without CUDA.
#pragma once

#include "hopper/ops.h"

namespace moxie::hopper {

// REQUIRE checked shapes.
int64_t launch_workspace_bytes(const MoeShape& shape);
int64_t launch_workspace_bytes(const GroupedGemmShape& shape);
int64_t launch_workspace_bytes(const LinearShape& shape);
int64_t launch_workspace_bytes(const RouteShape& shape);

// Look at the device and at where the pointers lie, then launch. REQUIRE checked Args and a
// workspace as large as launch_workspace_bytes says.
void launch(const MoeArgs& args, const Workspace& workspace, StreamHandle stream);
void launch(const ::moxie::GroupedGemmArgs& args, const Workspace& workspace, StreamHandle stream);
void launch(const Mxfp4LinearArgs& args, const Workspace& workspace, StreamHandle stream);
void launch(const RouteArgs& args, const Workspace& workspace, StreamHandle stream);
void launch(const RowListsArgs& args, const Workspace& workspace, StreamHandle stream);
void launch(const ::moxie::PrepackArgs& args, StreamHandle stream);
void launch(const QuantizeMxfp4Args& args, StreamHandle stream);
void launch(const DequantizeMxfp4Args& args, StreamHandle stream);

}  // namespace moxie::hopper
