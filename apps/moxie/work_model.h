// How much arithmetic and how many bytes a forward pass needs at least: what speeds are measured
// against.
#pragma once

#include <cstdint>

#include "checkpoint/checkpoint.h"

namespace moxie::cli {

// Floating-point operations, two per multiply-add, of the weights that `tokens` prompt tokens need;
// the unembedding once, for the last; of the last layer only keys and values for the others.
// Attention scores are not among them.
double prefill_flops(const GptOssConfig& config, int64_t tokens);
// Those of the attention scores and sums: positions start .. start + tokens - 1, in the last layer
// the last one.
double attention_flops(const GptOssConfig& config, int64_t start, int64_t tokens);

// Bytes read to decode one token for each of `batch` sequences, in the checkpoint's element sizes:
// dense weights once, experts as many as are hit, one embedding row per sequence.
// experts_per_layer: distinct experts that a layer's batch is routed to, on average.
double decode_weight_bytes(const GptOssConfig& config, int64_t batch, double experts_per_layer);
// Keys and values (bf16) that one token at `position` reads.
double decode_kv_bytes(const GptOssConfig& config, int64_t position);

}  // namespace moxie::cli
