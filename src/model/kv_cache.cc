#include "model/kv_cache.h"

#include <algorithm>

#include "base/check.h"

namespace moxie {
namespace {

constexpr int64_t kAlignment = 64;  // of each layer's keys and values

// ring: slots that a window layer needs besides its window.
int64_t slots(const GptOssConfig& config, int64_t layer, int64_t context, int64_t ring) {
  if (!config.layer_is_sliding[static_cast<size_t>(layer)]) return context;
  return std::min(context, config.sliding_window - 1 + ring);
}

// Of one layer's keys, or of its values.
int64_t layer_bytes(const GptOssConfig& config, DType dtype, int64_t num_slots) {
  const int64_t bytes =
      config.num_kv_heads * num_slots * config.head_dim * static_cast<int64_t>(size_bytes(dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int64_t KvCache::size_bytes(const GptOssConfig& config, DType dtype, int64_t context,
                            int64_t max_chunk, int64_t rewind) {
  int64_t bytes = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    bytes += 2 * layer_bytes(config, dtype, slots(config, layer, context, max_chunk + rewind));
  return bytes;
}

KvCache::KvCache(const GptOssConfig& config, DType dtype, int64_t context, int64_t max_chunk,
                 int64_t rewind)
    : dtype_(dtype), context_(context), max_chunk_(max_chunk) {
  MOXIE_CHECK(context >= 1 && context <= config.max_position, kInvalidArgument,
              "the context must be 1 to ", config.max_position,
              " positions (max_position_embeddings of the model), got ", context);
  MOXIE_CHECK(max_chunk >= 1, kInvalidArgument, "a forward pass needs at least 1 row, got ",
              max_chunk);
  MOXIE_CHECK(rewind >= 0, kInvalidArgument, "a cache cannot be rewound by ", rewind,
              " positions; expected 0 or more");
  buffer_ = PageBuffer(static_cast<size_t>(size_bytes(config, dtype, context, max_chunk, rewind)));
  uint8_t* next = buffer_.data();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const int64_t capacity = slots(config, layer, context, max_chunk + rewind);
    const int64_t bytes = layer_bytes(config, dtype, capacity);
    layers_.push_back({next, next + bytes, capacity});
    next += 2 * bytes;
    if (config.layer_is_sliding[static_cast<size_t>(layer)]) {
      window_ = config.sliding_window;
      ring_ = capacity;
    }
  }
}

void KvCache::advance(int64_t num_rows) {
  MOXIE_CHECK_INTERNAL(num_rows >= 0 && length_ + num_rows <= context_);
  length_ += num_rows;
  if (ring_ > 0) oldest_ = std::max(oldest_, length_ - ring_);
}

bool KvCache::truncate(int64_t length) {
  if (length < 0 || length > length_) return false;
  if (length == 0) oldest_ = 0;
  if (ring_ > 0 && std::max<int64_t>(0, length - window_ + 1) < oldest_) return false;
  length_ = length;
  return true;
}

}  // namespace moxie
