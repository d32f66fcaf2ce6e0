#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "ops/attention.h"
#include "ops/embed.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/rms_norm.h"

namespace moxie {

struct Model::State {
  GptOssWeights weights;
  std::unique_ptr<Backend> backend;
  int64_t max_rows = 0, max_logits = 0, max_context = 0;
  int64_t workspace_bytes = 0;
  RopeFrequencies frequencies;

  // Scratch of one forward pass: activations, and logits.
  PageBuffer buffer;
  Rows x, normed, qkv, attended, router_logits, logits_in, logits;
  float *cos = nullptr, *sin = nullptr;   // [max_rows, head_dim / 2]
  std::span<int32_t> tokens, expert_ids;  // [max_rows], [max_rows, experts_per_token]
  std::span<float> expert_weights;        // [max_rows, experts_per_token]
  std::vector<SequenceRows> sequences;    // capacity max_rows

  void take_scratch();
  int64_t check(std::span<const ForwardChunk> chunks) const;
  void place(std::span<const ForwardChunk> chunks);
  int64_t run_attention(int64_t n, int64_t rows, std::span<const ForwardChunk> chunks, Phase phase);
  int64_t keep_rows_with_logits(std::span<const ForwardChunk> chunks);
  void run_experts(int64_t n, int64_t rows, Phase phase);
  int64_t run_logits(std::span<const ForwardChunk> chunks, Phase phase);
};

namespace {

Rows first_rows(const Rows& all, int64_t count) {
  Rows part = all;
  part.rows = count;
  return part;
}

Rows rows_from(const Rows& all, int64_t begin, int64_t count) {
  const int64_t bytes = begin * all.stride * static_cast<int64_t>(size_bytes(all.dtype));
  return {static_cast<char*>(all.data) + bytes, all.dtype, count, all.cols, all.stride};
}

int64_t rows_with_logits(const ForwardChunk& chunk) {
  switch (chunk.logits) {
    case LogitsWanted::kNone:
      return 0;
    case LogitsWanted::kLast:
      return 1;
    case LogitsWanted::kAll:
      break;
  }
  return static_cast<int64_t>(chunk.tokens.size());
}

}  // namespace

Model::Model(GptOssWeights weights, std::unique_ptr<Backend> backend, int64_t max_rows,
             int64_t max_logits, int64_t max_context)
    : state_(std::make_unique<State>()) {
  const GptOssConfig& config = weights.config;
  MOXIE_CHECK(max_rows >= 1 && max_rows <= (1 << 20), kInvalidArgument,
              "rows of a forward pass must be 1 to ", 1 << 20, ", got ", max_rows);
  MOXIE_CHECK(max_logits >= 1 && max_logits <= max_rows, kInvalidArgument,
              "rows with logits must be 1 to the rows of a forward pass (", max_rows, "), got ",
              max_logits);
  MOXIE_CHECK(max_context >= 1 && max_context <= config.max_position, kInvalidArgument,
              "the context must be 1 to ", config.max_position,
              " positions (max_position_embeddings of the model), got ", max_context);
  state_->weights = std::move(weights);
  state_->backend = std::move(backend);
  state_->max_rows = max_rows;
  state_->max_logits = max_logits;
  state_->max_context = max_context;
  state_->frequencies = rope_frequencies(config);
  state_->take_scratch();
}

Model::~Model() = default;

const GptOssConfig& Model::config() const { return state_->weights.config; }
const GptOssWeights& Model::weights() const { return state_->weights; }
const Backend& Model::backend() const { return *state_->backend; }
int64_t Model::max_rows() const { return state_->max_rows; }
int64_t Model::max_logits() const { return state_->max_logits; }
int64_t Model::workspace_bytes() const { return state_->workspace_bytes; }

KvCache Model::make_cache(int64_t context, int64_t rewind) const {
  MOXIE_CHECK(context <= state_->max_context, kInvalidArgument, "a cache of ", context,
              " positions was asked for, but the model was set up for ", state_->max_context);
  return KvCache(config(), state_->backend->activation_dtype(), context, state_->max_rows, rewind);
}

void Model::State::take_scratch() {
  const GptOssConfig& config = weights.config;
  const DType dtype = backend->activation_dtype();
  const int64_t q_width = config.num_q_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  const int64_t chosen = config.experts_per_token, half = config.head_dim / 2;

  // Twice the same walk: first to count, then to place.
  int64_t used = 0;
  uint8_t* base = nullptr;
  const auto take = [&](int64_t bytes) -> void* {
    void* piece = base == nullptr ? nullptr : base + used;
    used += (bytes + 63) / 64 * 64;
    return piece;
  };
  const auto take_rows = [&](DType type, int64_t rows, int64_t cols) {
    return Rows{take(rows * cols * static_cast<int64_t>(size_bytes(type))), type, rows, cols, cols};
  };
  const auto walk = [&] {
    used = 0;
    x = take_rows(dtype, max_rows, config.hidden_size);
    normed = take_rows(dtype, max_rows, config.hidden_size);
    qkv = take_rows(dtype, max_rows, q_width + 2 * kv_width);
    attended = take_rows(dtype, max_rows, q_width);
    router_logits = take_rows(dtype, max_rows, config.num_experts);
    logits_in = take_rows(dtype, max_logits, config.hidden_size);
    logits = take_rows(DType::kF32, max_logits, config.vocab_size);
    cos = static_cast<float*>(take(max_rows * half * 4));
    sin = static_cast<float*>(take(max_rows * half * 4));
    tokens = {static_cast<int32_t*>(take(max_rows * 4)), static_cast<size_t>(max_rows)};
    expert_ids = {static_cast<int32_t*>(take(max_rows * chosen * 4)),
                  static_cast<size_t>(max_rows * chosen)};
    expert_weights = {static_cast<float*>(take(max_rows * chosen * 4)),
                      static_cast<size_t>(max_rows * chosen)};
  };
  walk();
  buffer = PageBuffer(static_cast<size_t>(used));
  base = buffer.data();
  walk();
  sequences.reserve(static_cast<size_t>(max_rows));

  BackendLimits limits;
  limits.max_rows = max_rows;
  limits.hidden_size = config.hidden_size;
  limits.intermediate_size = config.intermediate_size;
  limits.num_q_heads = config.num_q_heads;
  limits.num_kv_heads = config.num_kv_heads;
  limits.head_dim = config.head_dim;
  limits.num_experts = config.num_experts;
  limits.experts_per_token = config.experts_per_token;
  limits.max_context = max_context;
  workspace_bytes = used + backend->reserve(limits);
}

// Refuses before anything is written; returns the number of rows.
int64_t Model::State::check(std::span<const ForwardChunk> chunks) const {
  const GptOssConfig& config = weights.config;
  int64_t rows = 0, logits_rows = 0;
  MOXIE_CHECK(!chunks.empty(), kInvalidArgument, "a forward pass needs at least one sequence");
  for (size_t i = 0; i < chunks.size(); ++i) {
    const ForwardChunk& chunk = chunks[i];
    const auto count = static_cast<int64_t>(chunk.tokens.size());
    MOXIE_CHECK(chunk.cache != nullptr, kInvalidArgument, "sequence ", i, " has no cache");
    for (size_t j = 0; j < i; ++j)
      MOXIE_CHECK(chunks[j].cache != chunk.cache, kInvalidArgument, "sequences ", j, " and ", i,
                  " of a forward pass share one cache");
    const KvCache& cache = *chunk.cache;
    MOXIE_CHECK(cache.num_layers() == config.num_layers &&
                    cache.dtype() == backend->activation_dtype() && cache.context() <= max_context,
                kInvalidArgument, "the cache of sequence ", i, " was made for another model");
    MOXIE_CHECK(count > 0, kInvalidArgument, "sequence ", i, " has no tokens");
    MOXIE_CHECK(count <= cache.max_chunk(), kInvalidArgument, "sequence ", i, " has ", count,
                " tokens, its cache takes at most ", cache.max_chunk(), " at a time");
    MOXIE_CHECK(cache.length() + count <= cache.context(), kInvalidArgument,
                "the context is full: it holds ", cache.context(), " tokens, ", cache.length(),
                " are there and ", count, " more came; use a larger --ctx");
    for (const int32_t token : chunk.tokens)
      MOXIE_CHECK(token >= 0 && token < config.vocab_size, kInvalidArgument, "token id ", token,
                  " is outside the vocabulary of ", config.vocab_size);
    rows += count;
    logits_rows += rows_with_logits(chunk);
  }
  MOXIE_CHECK(rows <= max_rows, kInvalidArgument, "a forward pass takes at most ", max_rows,
              " tokens, got ", rows);
  MOXIE_CHECK(logits_rows <= max_logits, kInvalidArgument,
              "a forward pass gives logits for at most ", max_logits, " tokens, asked for ",
              logits_rows);
  return rows;
}

// Tokens, and cos and sin of their positions, in the order of rows.
void Model::State::place(std::span<const ForwardChunk> chunks) {
  const auto half = static_cast<size_t>(weights.config.head_dim / 2);
  size_t row = 0;
  sequences.clear();
  for (const ForwardChunk& chunk : chunks) {
    sequences.push_back({.start_position = chunk.cache->length(),
                         .first_row = static_cast<int64_t>(row),
                         .num_rows = static_cast<int64_t>(chunk.tokens.size())});
    for (size_t i = 0; i < chunk.tokens.size(); ++i, ++row) {
      tokens[row] = chunk.tokens[i];
      rope_row(frequencies, chunk.cache->length() + static_cast<int64_t>(i),
               {cos + row * half, half}, {sin + row * half, half});
    }
  }
}

// Moves the rows that want logits to the front of x, normed, cos and sin; `sequences` then says
// where they are. Returns their number.
int64_t Model::State::keep_rows_with_logits(std::span<const ForwardChunk> chunks) {
  const int64_t half = weights.config.head_dim / 2;
  int64_t kept = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    SequenceRows& rows = sequences[i];
    const int64_t count = rows_with_logits(chunks[i]), skipped = rows.num_rows - count;
    const int64_t from = rows.first_row + skipped;
    for (const Rows& matrix : {x, normed})
      std::memmove(rows_from(matrix, kept, count).data, rows_from(matrix, from, count).data,
                   static_cast<size_t>(count * matrix.stride) * size_bytes(matrix.dtype));
    for (float* angles : {cos, sin})
      std::memmove(angles + kept * half, angles + from * half,
                   static_cast<size_t>(count * half) * sizeof(float));
    rows.start_position += skipped;
    rows.first_row = kept;
    rows.num_rows = count;
    kept += count;
  }
  return kept;
}

// Returns the rows that go on from here: after the last layer's keys and values are stored, only
// those that want logits do.
int64_t Model::State::run_attention(int64_t n, int64_t rows, std::span<const ForwardChunk> chunks,
                                    Phase phase) {
  const GptOssConfig& config = weights.config;
  const LayerWeights& layer = weights.layers[static_cast<size_t>(n)];
  const int64_t q_width = config.num_q_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;

  backend->rms_norm({.x = first_rows(x, rows),
                     .scale = layer.attention_norm.data(),
                     .epsilon = static_cast<float>(config.rms_norm_eps),
                     .out = first_rows(normed, rows)});
  const auto project = [&](const Bf16Matrix& weight, const std::vector<float>& bias,
                           int64_t column) {
    backend->linear({.phase = phase,
                     .x = first_rows(normed, rows),
                     .weight = weight,
                     .bias = bias.data(),
                     .out = columns(first_rows(qkv, rows), column, weight.n)});
  };
  const auto rotate = [&](const Rows& heads, int64_t num_q_heads, int64_t num_kv_heads) {
    backend->rope({.qkv = heads,
                   .num_q_heads = num_q_heads,
                   .num_kv_heads = num_kv_heads,
                   .head_dim = config.head_dim,
                   .cos = cos,
                   .sin = sin,
                   .sequences = sequences});
  };
  for (size_t i = 0; i < chunks.size(); ++i) sequences[i].kv = chunks[i].cache->layer(n);
  project(layer.k, layer.k_bias, q_width);
  project(layer.v, layer.v_bias, q_width + kv_width);
  int64_t wanted = rows;
  if (n + 1 == config.num_layers) {
    wanted = 0;
    for (const ForwardChunk& chunk : chunks) wanted += rows_with_logits(chunk);
  }
  if (wanted == rows) {
    project(layer.q, layer.q_bias, 0);
    rotate(first_rows(qkv, rows), config.num_q_heads, config.num_kv_heads);
  } else {
    rotate(columns(first_rows(qkv, rows), q_width, 2 * kv_width), 0, config.num_kv_heads);
    rows = keep_rows_with_logits(chunks);
    if (rows == 0) return 0;
    project(layer.q, layer.q_bias, 0);
    rotate(columns(first_rows(qkv, rows), 0, q_width), config.num_q_heads, 0);
  }
  const Rows stream = first_rows(x, rows), heads_out = first_rows(attended, rows);
  const bool sliding = config.layer_is_sliding[static_cast<size_t>(n)];
  backend->attention({.phase = phase,
                      .q = columns(first_rows(qkv, rows), 0, q_width),
                      .num_q_heads = config.num_q_heads,
                      .num_kv_heads = config.num_kv_heads,
                      .head_dim = config.head_dim,
                      .sinks = layer.sinks.data(),
                      .sm_scale = 1 / std::sqrt(static_cast<float>(config.head_dim)),
                      .window = sliding ? config.sliding_window : 0,
                      .sequences = sequences,
                      .out = heads_out});
  backend->linear({.phase = phase,
                   .x = heads_out,
                   .weight = layer.o,
                   .bias = layer.o_bias.data(),
                   .residual = stream,
                   .out = stream});
  return rows;
}

void Model::State::run_experts(int64_t n, int64_t rows, Phase phase) {
  const GptOssConfig& config = weights.config;
  const LayerWeights& layer = weights.layers[static_cast<size_t>(n)];
  const Rows stream = first_rows(x, rows), input = first_rows(normed, rows);
  const Rows scores = first_rows(router_logits, rows);
  const auto routed = static_cast<size_t>(rows * config.experts_per_token);

  backend->rms_norm({.x = stream,
                     .scale = layer.mlp_norm.data(),
                     .epsilon = static_cast<float>(config.rms_norm_eps),
                     .out = input});
  backend->linear({.phase = phase,
                   .x = input,
                   .weight = layer.router,
                   .bias = layer.router_bias.data(),
                   .out = scores});
  backend->route({.logits = scores,
                  .experts_per_token = config.experts_per_token,
                  .expert_ids = expert_ids.first(routed),
                  .weights = expert_weights.first(routed)});
  backend->moe({.phase = phase,
                .x = input,
                .experts_per_token = config.experts_per_token,
                .expert_ids = expert_ids.first(routed),
                .weights = expert_weights.first(routed),
                .gate_up = layer.gate_up,
                .down = layer.down,
                .gate_up_bias = layer.gate_up_bias.data(),
                .down_bias = layer.down_bias.data(),
                .alpha = static_cast<float>(config.swiglu_alpha),
                .limit = static_cast<float>(config.swiglu_limit),
                .residual = stream,
                .out = stream});
}

// Norm and unembedding of the rows that want logits; returns their number. Logits stay float32: the
// reference implementations round them to bf16, which makes ties that the weights do not contain.
int64_t Model::State::run_logits(std::span<const ForwardChunk> chunks, Phase phase) {
  int64_t done = 0;
  for (size_t begin = 0, end = 0; begin < chunks.size(); begin = end) {
    // Neighbours that want the same go together.
    const int64_t first = done;
    for (; end < chunks.size() && chunks[end].logits == chunks[begin].logits; ++end) {
      const SequenceRows& rows = sequences[end];
      const int64_t count = rows_with_logits(chunks[end]);
      if (count == 0) continue;
      backend->rms_norm({.x = rows_from(x, rows.first_row + rows.num_rows - count, count),
                         .scale = weights.final_norm.data(),
                         .epsilon = static_cast<float>(weights.config.rms_norm_eps),
                         .out = rows_from(logits_in, done, count)});
      done += count;
    }
    if (done == first) continue;
    backend->linear({.phase = chunks[begin].logits == LogitsWanted::kLast ? Phase::kDecode : phase,
                     .x = rows_from(logits_in, first, done - first),
                     .weight = weights.unembedding,
                     .out = rows_from(logits, first, done - first)});
  }
  return done;
}

std::span<const float> Model::forward(std::span<const ForwardChunk> chunks, Phase phase) {
  State& state = *state_;
  const int64_t rows = state.check(chunks);
  state.place(chunks);
  state.backend->embed({.tokens = state.tokens.first(static_cast<size_t>(rows)),
                        .table = state.weights.embedding,
                        .out = first_rows(state.x, rows)});
  for (int64_t n = 0; n < config().num_layers; ++n) {
    const int64_t kept = state.run_attention(n, rows, chunks, phase);
    if (kept > 0) state.run_experts(n, kept, phase);
  }
  const int64_t logits_rows = state.run_logits(chunks, phase);
  for (const ForwardChunk& chunk : chunks)
    chunk.cache->advance(static_cast<int64_t>(chunk.tokens.size()));
  return {static_cast<const float*>(state.logits.data),
          static_cast<size_t>(logits_rows * config().vocab_size)};
}

}  // namespace moxie
