#include "interrupt.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace moxie::cli {
namespace {

// All lock-free, so that the handler may touch them.
std::atomic<bool> g_in_scope{false};
std::atomic<bool> g_second_waits{false};
std::atomic<int> g_count{0};
std::atomic<InterruptScope::Action> g_action{nullptr};
std::atomic<void*> g_context{nullptr};
static_assert(std::atomic<InterruptScope::Action>::is_always_lock_free);

termios g_terminal;  // as it was when the program began
bool g_has_terminal = false;

void leave() {
  // A line being edited has changed how the terminal reads.
  if (g_has_terminal && tcgetpgrp(STDIN_FILENO) == getpgrp())
    tcsetattr(STDIN_FILENO, TCSANOW, &g_terminal);
  // The text on the terminal may be dimmed; give it back as it was.
  static constexpr char kReset[] = "\033[0m\n";
  if (isatty(STDERR_FILENO)) (void)!write(STDERR_FILENO, kReset, sizeof kReset - 1);
  _exit(130);
}

void on_interrupt(int) {
  const int saved = errno;
  if (!g_in_scope.load()) leave();
  if (g_count.fetch_add(1) > 0 && !g_second_waits.load()) leave();
  if (InterruptScope::Action action = g_action.load()) action(g_context.load());
  errno = saved;
}

void handle(int signal_number, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a blocked read returns, and its caller looks
  sigaction(signal_number, &action, nullptr);
}

bool is_ignored(int signal_number) {
  struct sigaction action = {};
  sigaction(signal_number, nullptr, &action);
  return action.sa_handler == SIG_IGN;
}

}  // namespace

void install_interrupt_handler() {
  g_has_terminal = tcgetattr(STDIN_FILENO, &g_terminal) == 0;
  handle(SIGINT, on_interrupt);
}

InterruptScope::InterruptScope(Second second) : InterruptScope() {
  if (second == Second::kLeaves) return;
  g_second_waits = true;
  handle(SIGTERM, on_interrupt);
  if (!is_ignored(SIGHUP)) handle(SIGHUP, on_interrupt);  // nohup
  handle(SIGXFSZ, SIG_IGN);
}

InterruptScope::InterruptScope(Action action, void* context) {
  g_count = 0;
  g_context = context;
  g_action = action;
  g_in_scope = true;
}

InterruptScope::~InterruptScope() {
  if (g_second_waits.exchange(false)) {
    handle(SIGTERM, SIG_DFL);
    if (!is_ignored(SIGHUP)) handle(SIGHUP, SIG_DFL);
  }
  g_in_scope = false;
  g_action = nullptr;
}

bool InterruptScope::interrupted() const { return g_count.load() > 0; }

}  // namespace moxie::cli
