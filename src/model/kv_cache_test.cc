#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include "model/weights.h"
#include "moxie/error.h"

namespace moxie {
namespace {

// gpt-oss.md 5.3: bytes at three contexts, with rings for one-token decode (window slots).
TEST(KvCache, HasTheSizesOfTheSpecification) {
  const GptOssConfig small = preset_config("20b"), large = preset_config("120b");
  EXPECT_EQ(KvCache::size_bytes(small, DType::kBF16, 4096, 1), 103809024);
  EXPECT_EQ(KvCache::size_bytes(small, DType::kBF16, 32768, 1), 808452096);
  EXPECT_EQ(KvCache::size_bytes(small, DType::kBF16, 131072, 1), 3224371200);
  EXPECT_EQ(KvCache::size_bytes(large, DType::kBF16, 4096, 1), 155713536);
  EXPECT_EQ(KvCache::size_bytes(large, DType::kBF16, 131072, 1), 4836556800);
  EXPECT_EQ(KvCache::size_bytes(small, DType::kF32, 4096, 1), 2 * 103809024);
  // A chunk of 512 needs 127 + 512 slots in a ring: 511 more in 12 layers.
  EXPECT_EQ(KvCache::size_bytes(small, DType::kBF16, 4096, 512), 103809024 + 12 * 511 * 2048);
}

TEST(KvCache, LayersDoNotOverlapAndRingsAreNoLongerThanTheContext) {
  const GptOssConfig config = preset_config("tiny");  // window 16
  const KvCache cache(config, DType::kF32, 100, 8);
  const int64_t width = config.num_kv_heads * config.head_dim * 4;
  const auto* last_end = static_cast<const char*>(nullptr);
  for (int64_t n = 0; n < config.num_layers; ++n) {
    const KvView view = cache.layer(n);
    EXPECT_EQ(view.capacity, n % 2 == 0 ? 16 - 1 + 8 : 100);
    const auto *k = static_cast<const char*>(view.k), *v = static_cast<const char*>(view.v);
    EXPECT_TRUE(last_end == nullptr || k >= last_end);
    EXPECT_GE(v, k + view.capacity * width);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(k) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(v) % 64, 0u);
    last_end = v + view.capacity * width;
  }
  EXPECT_EQ(KvCache(config, DType::kF32, 10, 8).layer(0).capacity, 10);
}

TEST(KvCache, TruncatesOnlyWhileTheWindowsAreIntact) {
  const GptOssConfig config = preset_config("tiny");  // window 16
  KvCache cache(config, DType::kBF16, 200, 8);        // ring of 23
  cache.advance(20);
  EXPECT_FALSE(cache.truncate(21));
  EXPECT_FALSE(cache.truncate(-1));
  EXPECT_TRUE(cache.truncate(3));  // nothing is overwritten yet
  cache.advance(37);               // 40: positions 17 .. 39 are left
  EXPECT_FALSE(cache.truncate(31));
  EXPECT_EQ(cache.length(), 40);
  EXPECT_TRUE(cache.truncate(32));  // the next row needs 17 .. 31
  cache.advance(3);                 // the ring still ends where it was longest
  EXPECT_FALSE(cache.truncate(31));
  EXPECT_TRUE(cache.truncate(32));
  EXPECT_TRUE(cache.truncate(0));
  EXPECT_EQ(cache.length(), 0);
  cache.advance(23);
  EXPECT_TRUE(cache.truncate(1));
}

TEST(KvCache, CanBeRewoundAsFarAsAskedFor) {
  const GptOssConfig config = preset_config("tiny");  // window 16
  KvCache cache(config, DType::kBF16, 200, 8, 40);
  EXPECT_EQ(cache.layer(0).capacity, 16 - 1 + 8 + 40);
  EXPECT_EQ(KvCache::size_bytes(config, DType::kBF16, 200, 8, 40),
            KvCache::size_bytes(config, DType::kBF16, 200, 48));
  cache.advance(150);
  EXPECT_FALSE(cache.truncate(150 - 49));
  EXPECT_TRUE(cache.truncate(150 - 48));
  EXPECT_THROW(KvCache(config, DType::kBF16, 16, 8, -1), Error);
}

TEST(KvCache, WithoutWindowLayersAnyTruncationIsFine) {
  GptOssConfig config = preset_config("tiny");
  config.layer_is_sliding.assign(4, false);
  KvCache cache(config, DType::kBF16, 200, 8);
  cache.advance(200);
  EXPECT_TRUE(cache.truncate(1));
}

TEST(KvCache, RefusesAContextTheModelDoesNotHave) {
  const GptOssConfig config = preset_config("tiny");
  EXPECT_THROW(KvCache(config, DType::kBF16, 131073, 8), Error);
  EXPECT_THROW(KvCache(config, DType::kBF16, 0, 8), Error);
  EXPECT_THROW(KvCache(config, DType::kBF16, 16, 0), Error);
}

}  // namespace
}  // namespace moxie
