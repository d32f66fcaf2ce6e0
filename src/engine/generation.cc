#include "engine/generation.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <span>

#include "base/check.h"

namespace moxie {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

struct Session::State {
  State(Model& model_, int64_t context, int64_t rewind)
      : model(model_), cache(model_.make_cache(context, rewind)) {}

  Model& model;
  KvCache cache;
  std::vector<int32_t> cached;  // the tokens whose keys and values the cache holds
  GenerationStats stats;
  std::atomic<bool> cancelled{false};
  static_assert(std::atomic<bool>::is_always_lock_free);  // cancel() runs in signal handlers

  // Runs `tokens` behind what the cache holds; logits of the last one if wanted.
  std::span<const float> forward(std::span<const int32_t> tokens, Phase phase, bool logits) {
    const ForwardChunk chunk{&cache, tokens, logits ? LogitsWanted::kLast : LogitsWanted::kNone};
    const std::span<const float> result = model.forward({&chunk, 1}, phase);
    cached.insert(cached.end(), tokens.begin(), tokens.end());
    return result;
  }

  // Rewinds the cache to the start it shares with `prompt`, but never over all of the prompt: its
  // last token has to run, for its logits. Returns how many tokens need not be computed again.
  int64_t reuse(const std::vector<int32_t>& prompt) {
    const size_t most = std::min(cached.size(), prompt.size() - 1);
    const auto differ = std::mismatch(prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(most),
                                      cached.begin());
    int64_t shared = differ.first - prompt.begin();
    // A window layer's ring cannot be rewound far; then everything is computed again.
    if (!cache.truncate(shared)) {
      shared = 0;
      MOXIE_CHECK_INTERNAL(cache.truncate(0));
    }
    cached.resize(static_cast<size_t>(shared));
    return shared;
  }
};

Session::Session(Model& model, int64_t context, int64_t rewind)
    : state_(std::make_shared<State>(model, context, rewind)) {}

void Session::cancel() { state_->cancelled.store(true); }
const GenerationStats& Session::stats() const { return state_->stats; }

StopReason Session::generate(const std::vector<int32_t>& prompt, const GenerationOptions& options,
                             const std::function<bool(int32_t)>& on_token,
                             const std::function<void(int64_t, int64_t)>& on_prefill) {
  State& state = *state_;
  // However this ends, a cancel() was meant for this generation and no other.
  struct ClearOnExit {
    std::atomic<bool>& flag;
    ~ClearOnExit() { flag.store(false); }
  } clear_on_exit{state.cancelled};

  state.stats = {};
  const int64_t length = static_cast<int64_t>(prompt.size());
  MOXIE_CHECK(length > 0, kInvalidArgument, "the prompt is empty; at least one token is needed");
  MOXIE_CHECK(length <= state.cache.context(), kInvalidArgument, "the prompt has ", length,
              " tokens and the context holds ", state.cache.context(),
              "; shorten the prompt, begin a new conversation or raise the context");
  Sampler sampler(options.sampling);

  const int64_t cached = state.reuse(prompt);
  state.stats.prompt_tokens = length;
  state.stats.cached_tokens = cached;
  state.cached.reserve(static_cast<size_t>(state.cache.context()));

  std::span<const float> logits;
  const Clock::time_point prefill_start = Clock::now();
  if (on_prefill) on_prefill(0, length - cached);
  for (int64_t done = cached; done < length;) {
    if (state.cancelled.load()) {
      state.stats.prefill_seconds = seconds_since(prefill_start);
      return StopReason::kCancelled;
    }
    const int64_t rows = std::min(length - done, state.model.max_rows());
    const std::span<const int32_t> tokens =
        std::span(prompt).subspan(static_cast<size_t>(done), static_cast<size_t>(rows));
    logits = state.forward(tokens, Phase::kPrefill, done + rows == length);
    done += rows;
    state.stats.prefill_seconds = seconds_since(prefill_start);
    if (on_prefill) on_prefill(done - cached, length - cached);
  }

  const Clock::time_point decode_start = Clock::now();
  for (int64_t position = length;; ++position) {
    if (state.cancelled.load()) return StopReason::kCancelled;
    const int32_t token = sampler.sample(logits, position, options.sample_below);
    ++state.stats.generated_tokens;
    const bool wants_more = on_token(token);
    state.stats.decode_seconds = seconds_since(decode_start);
    const auto& stops = options.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) return StopReason::kStopToken;
    if (!wants_more) return StopReason::kCancelled;
    if (options.max_tokens > 0 && state.stats.generated_tokens >= options.max_tokens)
      return StopReason::kMaxTokens;
    if (position == state.cache.context()) return StopReason::kContextFull;
    if (state.cancelled.load()) return StopReason::kCancelled;
    logits = state.forward({&token, 1}, Phase::kDecode, true);
    state.stats.decode_seconds = seconds_since(decode_start);
  }
}

}  // namespace moxie
