// Many prompts over one model: what is running decodes together, and whoever ends makes room.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/generation.h"

namespace moxie {

struct BatchResult {
  StopReason reason = StopReason::kStopToken;
  std::vector<int32_t> tokens;  // generated, stop token included
};

// The tokens of a sequence follow from its prompt and options alone, and are those that
// Session::generate gives for them, bit for bit: neither the number of slots nor what runs beside
// it shows (ops/backend.h: a row's result does not depend on the other rows).
//
// Not thread-safe.
class BatchSession {
 public:
  // slots: sequences that run at a time, 1 to the model's rows with logits. Each has a cache of
  // `context` positions, whose memory is taken as they are written. Holds `model` by reference.
  BatchSession(Model& model, int64_t context, int64_t slots);
  ~BatchSession();

  bool has_room() const;  // for one more
  bool idle() const;      // nothing is running

  // REQUIRES has_room(). `id` comes back with the result. Throws Error(kInvalidArgument) when the
  // prompt is empty or longer than the context, or a sampling parameter is out of bounds.
  void add(int64_t id, std::vector<int32_t> prompt, const GenerationOptions& options);

  // One forward pass: prompts that are not read yet, as much of them as the pass takes; else the
  // next token of each sequence. on_done hears who ended, in the order of slots, and may call
  // add(). REQUIRES !idle(). Returns the number of tokens generated.
  int64_t step(const std::function<void(int64_t id, BatchResult result)>& on_done);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moxie
