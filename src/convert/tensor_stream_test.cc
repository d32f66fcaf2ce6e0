#include "convert/tensor_stream.h"

#include <gtest/gtest.h>

namespace moxie {
namespace {

using Shards = std::vector<std::vector<size_t>>;

TEST(Shards, AreFilledInOrderUntilTheNextWouldNotFit) {
  const std::vector<uint64_t> sizes = {4, 4, 2, 1, 10, 3, 7, 1};
  EXPECT_EQ(cut_into_shards(sizes, 10), (Shards{{0, 1, 2}, {3}, {4}, {5, 6}, {7}}));
  EXPECT_EQ(cut_into_shards(sizes, 1000), (Shards{{0, 1, 2, 3, 4, 5, 6, 7}}));
  EXPECT_EQ(cut_into_shards({}, 10), Shards{});
}

TEST(Shards, GiveATensorThatIsTooLargeAFileOfItsOwn) {
  const std::vector<uint64_t> sizes = {1, 50, 1, 1};
  EXPECT_EQ(cut_into_shards(sizes, 10), (Shards{{0}, {1}, {2, 3}}));
  EXPECT_EQ(cut_into_shards(std::vector<uint64_t>{50, 60}, 10), (Shards{{0}, {1}}));
}

TEST(Shards, AreNamedAsTransformersNamesThem) {
  EXPECT_EQ(shard_name(0, 1, TargetLayout::kHuggingFace), "model.safetensors");
  EXPECT_EQ(shard_name(0, 3, TargetLayout::kHuggingFace), "model-00001-of-00003.safetensors");
  EXPECT_EQ(shard_name(2, 3, TargetLayout::kBf16), "model-00003-of-00003.safetensors");
  EXPECT_EQ(shard_name(0, 1, TargetLayout::kOriginal), "model.safetensors");
  EXPECT_EQ(shard_name(0, 7, TargetLayout::kOriginal), "model--00001-of-00007.safetensors");
}

TEST(TensorStream, KnowsItsSize) {
  EXPECT_EQ((TensorStream{"x", DType::kBF16, {3, 5}, {}}).size_bytes(), 30u);
  EXPECT_EQ((TensorStream{"x", DType::kF32, {128, 5760, 90, 16}, {}}).size_bytes(), 4246732800u);
}

}  // namespace
}  // namespace moxie
