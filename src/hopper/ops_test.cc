// What the GPU's operations refuse beyond their contracts, before they look for a GPU. capi/ goes
// through the rest.
#include "hopper/ops.h"

#include <gtest/gtest.h>

#include <string>

#include "base/check.h"

namespace moxie::hopper {
namespace {

alignas(256) uint8_t memory[4096];

template <class Body>
std::string refusal(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(HopperOps, AWorkspaceIsLargeEnoughAndAligned) {
  const auto said = [](void* data, int64_t bytes, int64_t needed) {
    return refusal([&] { check_workspace("moe", {data, bytes}, needed); });
  };
  EXPECT_EQ(said(memory, 100, 100), "");
  EXPECT_EQ(said(nullptr, 0, 0), "");
  EXPECT_EQ(said(memory, 99, 100), "moe needs a workspace of 100 bytes, got 99");
  EXPECT_EQ(said(nullptr, 100, 100), "the workspace of moe is null");
  EXPECT_EQ(said(memory + 128, 100, 100),
            "the workspace of moe must begin at a multiple of 256 bytes");
}

TEST(HopperOps, TakeBf16AndRowsWithoutGapsOnly) {
  EXPECT_EQ(refusal([] {
              MoeArgs args;
              args.x = {memory, DType::kF32, 1, 32, 32};
              args.out = {memory + 1024, DType::kF32, 1, 32, 32};
              args.experts_per_token = 1;
              args.expert_ids = {reinterpret_cast<int32_t*>(memory), 1};
              args.weights = {reinterpret_cast<float*>(memory), 1};
              args.gate_up = {memory, memory, 1, 64, 32};
              args.down = {memory, memory, 1, 32, 32};
              args.layout = Mxfp4Layout::kPrepacked;
              run_moe(args, {}, nullptr);
            }),
            "x of moe on the GPU must be BF16, got F32");
  EXPECT_EQ(refusal([] {
              run_quantize_mxfp4({{memory, DType::kBF16, 2, 32, 64}, memory, memory}, nullptr);
            }),
            "quantize_mxfp4 on the GPU takes rows without gaps, but rows of 32 lie 64 apart");
  EXPECT_EQ(refusal([] {
              run_dequantize_mxfp4({memory, memory, {memory, DType::kBF16, 2, 32, 64}}, nullptr);
            }),
            "dequantize_mxfp4 on the GPU writes rows without gaps, but rows of 32 lie 64 apart");
}

TEST(HopperOps, ShapesOfArgs) {
  MoeArgs moe;
  moe.x = {nullptr, DType::kBF16, 7, 64, 64};
  moe.gate_up = {nullptr, nullptr, 5, 192, 64};
  moe.down = {nullptr, nullptr, 5, 64, 96};
  moe.experts_per_token = 3;
  moe.logits = {memory, DType::kBF16, 7, 9, 9};
  const MoeShape shape = shape_of(moe);
  EXPECT_EQ(shape.rows, 7);
  EXPECT_EQ(shape.hidden, 64);
  EXPECT_EQ(shape.inner, 96);
  EXPECT_EQ(shape.experts, 5);
  EXPECT_EQ(shape.experts_per_token, 3);
  EXPECT_EQ(shape.num_experts, 9);
  moe.logits = {};
  EXPECT_EQ(shape_of(moe).num_experts, 0);
}

}  // namespace
}  // namespace moxie::hopper
