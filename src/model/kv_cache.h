// Keys and values of one sequence, all layers.
#pragma once

#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include "ops/attention.h"

namespace moxie {

// A full layer has a slot per position; a window layer is a ring of window - 1 + max_chunk + rewind
// slots (or one per position where that is less). Memory is reserved at once and backed by pages as
// positions are written.
class KvCache {
 public:
  // context: positions it can hold; max_chunk: most rows per forward pass; dtype: the backend's
  // activation dtype; rewind: by how many positions more than max_chunk it can always be truncated.
  // Throws Error(kInvalidArgument) for numbers below 1 (rewind: 0) or a context beyond the model's
  // positions, Error(kOutOfMemory).
  KvCache(const GptOssConfig& config, DType dtype, int64_t context, int64_t max_chunk,
          int64_t rewind = 0);

  KvView layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }
  DType dtype() const { return dtype_; }
  int64_t length() const { return length_; }  // positions written
  int64_t context() const { return context_; }
  int64_t max_chunk() const { return max_chunk_; }
  void advance(int64_t num_rows);
  // Forgets positions from `length` on. Window layers keep only their ring, so what the positions
  // before `length` still need may be overwritten: then this returns false and changes nothing.
  // Always possible: back to 0; by at most max_chunk + rewind positions from the longest length
  // reached since it was 0; by any number while that length fits the ring.
  bool truncate(int64_t length);

  static int64_t size_bytes(const GptOssConfig& config, DType dtype, int64_t context,
                            int64_t max_chunk, int64_t rewind = 0);

 private:
  PageBuffer buffer_;
  std::vector<KvView> layers_;
  DType dtype_ = DType::kBF16;
  int64_t length_ = 0, context_ = 0, max_chunk_ = 0;
  int64_t window_ = 0, ring_ = 0;  // of the window layers; 0: there are none
  int64_t oldest_ = 0;             // positions before this are overwritten in the rings
};

}  // namespace moxie
