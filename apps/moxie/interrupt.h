// Ctrl-C.
//
// Outside of any InterruptScope the process ends at once with exit code 130. Inside one the first
// Ctrl-C sets interrupted() and runs the scope's action, so that the command can end in order; the
// second ends the process at once with 130, unless the scope says that it must clean up behind
// itself.
#pragma once

#include <cstdint>

namespace moxie::cli {

// Thrown by a command that was interrupted and has cleaned up behind itself: exit code 130.
struct Interrupted {};

void install_interrupt_handler();  // once, by main()

// One at a time. `action` runs inside a signal handler: only what is async-signal-safe.
class InterruptScope {
 public:
  using Action = void (*)(void* context);
  enum class Second : uint8_t {
    kLeaves,
    // For what removes files on its way out: also SIGTERM and SIGHUP interrupt, and a file past
    // `ulimit -f` is an error instead of the end of the process.
    kWaits,
  };
  explicit InterruptScope(Action action = nullptr, void* context = nullptr);
  explicit InterruptScope(Second second);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  bool interrupted() const;
  void check() const {  // throws Interrupted
    if (interrupted()) throw Interrupted{};
  }
};

}  // namespace moxie::cli
