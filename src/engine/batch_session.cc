#include "engine/batch_session.h"

#include <algorithm>
#include <optional>
#include <span>

#include "base/check.h"

namespace moxie {
namespace {

struct Slot {
  explicit Slot(KvCache cache_) : cache(std::move(cache_)) {}

  KvCache cache;
  bool busy = false;
  int64_t id = 0;
  std::vector<int32_t> prompt;
  GenerationOptions options;
  std::optional<Sampler> sampler;
  BatchResult result;

  std::span<const int32_t> unread() const {
    const auto read = std::min(static_cast<size_t>(cache.length()), prompt.size());
    return std::span(prompt).subspan(read);
  }

  // Draws the next token; true when it is the last.
  bool draw(std::span<const float> logits) {
    const auto position = static_cast<int64_t>(prompt.size() + result.tokens.size());
    const int32_t token = sampler->sample(logits, position, options.sample_below);
    result.tokens.push_back(token);
    const auto& stops = options.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end())
      result.reason = StopReason::kStopToken;
    else if (options.max_tokens > 0 &&
             static_cast<int64_t>(result.tokens.size()) >= options.max_tokens)
      result.reason = StopReason::kMaxTokens;
    else if (position == cache.context())
      result.reason = StopReason::kContextFull;
    else
      return false;
    return true;
  }
};

}  // namespace

struct BatchSession::State {
  Model& model;
  std::vector<Slot> slots;
  // Of the present step: its part of the forward pass, and whose it is.
  std::vector<ForwardChunk> chunks;
  std::vector<Slot*> owners;

  Phase plan();
};

// Prompts go first: while one is read nobody decodes, so that the passes that decode are full.
Phase BatchSession::State::plan() {
  chunks.clear();
  owners.clear();
  int64_t rows = model.max_rows();
  for (Slot& slot : slots) {
    if (!slot.busy || rows == 0) continue;
    const std::span<const int32_t> unread = slot.unread();
    if (unread.empty()) continue;
    const auto count = std::min<size_t>(unread.size(), static_cast<size_t>(rows));
    rows -= static_cast<int64_t>(count);
    chunks.push_back({&slot.cache, unread.first(count),
                      count == unread.size() ? LogitsWanted::kLast : LogitsWanted::kNone});
    owners.push_back(&slot);
  }
  if (!chunks.empty()) return Phase::kPrefill;
  for (Slot& slot : slots) {
    if (!slot.busy) continue;
    chunks.push_back({&slot.cache, {&slot.result.tokens.back(), 1}, LogitsWanted::kLast});
    owners.push_back(&slot);
  }
  return Phase::kDecode;
}

BatchSession::BatchSession(Model& model, int64_t context, int64_t slots)
    : state_(std::make_unique<State>(State{model, {}, {}, {}})) {
  MOXIE_CHECK(slots >= 1 && slots <= model.max_logits(), kInvalidArgument,
              "sequences of a batch must be 1 to the model's rows with logits (",
              model.max_logits(), "), got ", slots);
  state_->slots.reserve(static_cast<size_t>(slots));
  for (int64_t i = 0; i < slots; ++i) state_->slots.emplace_back(model.make_cache(context));
}

BatchSession::~BatchSession() = default;

bool BatchSession::has_room() const {
  return std::any_of(state_->slots.begin(), state_->slots.end(),
                     [](const Slot& slot) { return !slot.busy; });
}

bool BatchSession::idle() const {
  return std::none_of(state_->slots.begin(), state_->slots.end(),
                      [](const Slot& slot) { return slot.busy; });
}

void BatchSession::add(int64_t id, std::vector<int32_t> prompt, const GenerationOptions& options) {
  const auto slot = std::find_if(state_->slots.begin(), state_->slots.end(),
                                 [](const Slot& candidate) { return !candidate.busy; });
  MOXIE_CHECK_INTERNAL(slot != state_->slots.end());
  const auto length = static_cast<int64_t>(prompt.size());
  MOXIE_CHECK(length > 0, kInvalidArgument, "the prompt is empty; at least one token is needed");
  MOXIE_CHECK(length <= slot->cache.context(), kInvalidArgument, "the prompt has ", length,
              " tokens and the context holds ", slot->cache.context(),
              "; shorten the prompt, begin a new conversation or raise the context");
  slot->sampler.emplace(options.sampling);
  slot->cache.truncate(0);
  slot->id = id;
  slot->prompt = std::move(prompt);
  slot->options = options;
  slot->result = {};
  slot->busy = true;
}

int64_t BatchSession::step(const std::function<void(int64_t id, BatchResult result)>& on_done) {
  State& state = *state_;
  const Phase phase = state.plan();
  MOXIE_CHECK_INTERNAL(!state.chunks.empty());
  const std::span<const float> logits = state.model.forward(state.chunks, phase);
  const auto vocab_size = static_cast<size_t>(state.model.config().vocab_size);
  size_t row = 0;
  for (size_t i = 0; i < state.chunks.size(); ++i) {
    if (state.chunks[i].logits == LogitsWanted::kNone) continue;
    Slot& slot = *state.owners[i];
    if (!slot.draw(logits.subspan(row++ * vocab_size, vocab_size))) continue;
    slot.busy = false;
    on_done(slot.id, std::move(slot.result));
  }
  return static_cast<int64_t>(row);
}

}  // namespace moxie
