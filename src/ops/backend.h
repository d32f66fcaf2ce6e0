// The operations of a gpt-oss forward pass, and the interface of who carries them out.
//
// Each Args struct lives in a header of its own, which is its contract. Activations are bf16 or
// float32, the same throughout a backend (activation_dtype()); inside an operation sums are kept in
// float32 or better, and a result is rounded once, where it is stored.
//
// Determinism: the same Args give the same bits, whatever the number of threads. A row's result
// does not depend on which other rows are in the call: where a backend has several kernels for one
// operation, it chooses by Args::phase and shapes of weights, never by the number of rows.
//
// Threads: one thread at a time calls a Backend. Calls return when the result is in memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace moxie {

struct EmbedArgs;
struct RmsNormArgs;
struct LinearArgs;
struct RopeArgs;
struct AttentionArgs;
struct RouteArgs;
struct MoeArgs;

// What the rows are: parts of prompts (many rows, compute-bound) or one new token per sequence
// (few rows, bound by the reading of weights). A hint about speed that also fixes the summation
// order: any number of rows is right in either.
enum class Phase : uint8_t { kPrefill, kDecode };

// Upper bounds of what a backend will be asked, so that scratch memory can be taken beforehand.
struct BackendLimits {
  int64_t max_rows = 0;  // of any call
  int64_t hidden_size = 0, intermediate_size = 0;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t num_experts = 0, experts_per_token = 0;
  int64_t max_context = 0;  // keys a query may see
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for people: "cpu avx512_bf16, 2 threads".
  virtual std::string description() const = 0;
  virtual DType activation_dtype() const = 0;
  // Takes all scratch memory for calls within `limits`; later calls within them allocate nothing.
  // May be called again with larger limits. Returns the bytes held.
  virtual int64_t reserve(const BackendLimits& limits) = 0;

  virtual void embed(const EmbedArgs& args) = 0;
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void rope(const RopeArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void moe(const MoeArgs& args) = 0;
};

}  // namespace moxie
