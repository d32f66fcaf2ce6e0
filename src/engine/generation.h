// One sequence: prefill in chunks, then token after token, with a cache that is reused while the
// prompt's start stays the same.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "model/model.h"

namespace moxie {

enum class StopReason : uint8_t { kStopToken, kMaxTokens, kContextFull, kCancelled };

struct GenerationOptions {
  SamplingParams sampling;
  int64_t max_tokens = 0;  // 0: until the context is full
  std::vector<int32_t> stop_tokens;
  int32_t sample_below = 0;  // ids at and above are never drawn (0: no limit)
};

struct GenerationStats {
  int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

// Not thread-safe, but for cancel(), which may be called from a signal handler or another thread.
class Session {
 public:
  // rewind: how many tokens a later prompt may leave out of the end of what was read and generated
  // without all of it being computed again (the rings of window layers keep that many more keys and
  // values: 24.6 kB each for 20b). A chunk of the model's rows is always kept.
  Session(Model& model, int64_t context, int64_t rewind = 0);

  // Runs `prompt` (all of the conversation so far) and generates. The longest common prefix with
  // what the cache holds is not computed again. on_token sees every generated token, stop token
  // included, and may return false to stop. on_prefill, if set, hears (tokens done, tokens to do).
  // Throws Error(kInvalidArgument) when the prompt is longer than the context, with both numbers.
  StopReason generate(const std::vector<int32_t>& prompt, const GenerationOptions& options,
                      const std::function<bool(int32_t)>& on_token,
                      const std::function<void(int64_t, int64_t)>& on_prefill = {});
  void cancel();                         // ends generate() before its next step
  const GenerationStats& stats() const;  // of the last generate()

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace moxie
