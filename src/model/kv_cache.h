// Keys and values of one sequence, all layers.
#pragma once

#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include "ops/attention.h"

namespace moxie {

// A full layer has a slot per position; a window layer is a ring of window - 1 + max_chunk slots.
// Memory is reserved at once and backed by pages as positions are written.
class KvCache {
 public:
  // context: positions it can hold; max_chunk: most rows per forward pass; dtype: the backend's
  // activation dtype.
  KvCache(const GptOssConfig& config, DType dtype, int64_t context, int64_t max_chunk);

  KvView layer(int64_t index) const;
  int64_t length() const { return length_; }  // positions written
  int64_t context() const { return context_; }
  int64_t max_chunk() const { return max_chunk_; }
  void advance(int64_t num_rows);
  // Forgets positions from `length` on. Window layers keep only their ring: allowed back to 0, or
  // by at most max_chunk - 1 positions (then what the window still needs is intact); otherwise
  // returns false and changes nothing.
  bool truncate(int64_t length);

  static int64_t size_bytes(const GptOssConfig& config, DType dtype, int64_t context,
                            int64_t max_chunk);

 private:
  PageBuffer buffer_;
  std::vector<KvView> layers_;
  int64_t length_ = 0, context_ = 0, max_chunk_ = 0, oldest_rewind_ = 0;
};

}  // namespace moxie
