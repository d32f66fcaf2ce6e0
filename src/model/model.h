// The gpt-oss forward pass over a Backend.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "model/rope_table.h"
#include "model/weights.h"
#include "ops/backend.h"

namespace moxie {

// Which rows get logits. The unembedding's kernel follows from this and not from the number of
// rows: kLast uses the decode kernel, kAll the phase's.
enum class LogitsWanted : uint8_t { kNone, kLast, kAll };

// One sequence's part of a forward pass: `tokens` go to positions cache->length() and on.
struct ForwardChunk {
  KvCache* cache = nullptr;
  std::span<const int32_t> tokens;
  LogitsWanted logits = LogitsWanted::kLast;
};

// Owns its scratch memory; one thread at a time. A forward pass allocates nothing.
class Model {
 public:
  // max_rows: rows of one forward pass, all chunks together. max_logits: rows that get logits in
  // one pass.
  Model(GptOssWeights weights, std::unique_ptr<Backend> backend, int64_t max_rows,
        int64_t max_logits, int64_t max_context);
  ~Model();

  const GptOssConfig& config() const;
  const GptOssWeights& weights() const;
  const Backend& backend() const;
  int64_t max_rows() const;
  int64_t max_logits() const;
  int64_t workspace_bytes() const;
  KvCache make_cache(int64_t context, int64_t rewind = 0) const;  // with max_chunk = max_rows

  // Runs the chunks together and advances their caches. Returns logits, float32 [rows, vocab], in
  // the order of chunks and, within kAll, of positions; valid until the next call. Throws
  // Error(kInvalidArgument): a token id outside the vocabulary, more rows than max_rows, a full
  // cache.
  std::span<const float> forward(std::span<const ForwardChunk> chunks, Phase phase);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moxie
