// Where output goes and how it may look: standard output carries results, standard error notes and
// progress. On anything but a terminal: no colour, no bar, no prompt.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moxie::cli {

// Thrown when the reader of standard output has gone (`moxie ... | head`): exit code 141, as if
// SIGPIPE had killed the program, but with everything cleaned up.
struct OutputClosed {};

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();
bool stdout_has_color();  // a terminal, and neither NO_COLOR nor TERM=dumb
bool stderr_has_color();

// Writes everything to standard output at once. Throws OutputClosed, or Error(kIo) (disk full).
void print(std::string_view text);
// The same to standard error; failure is ignored.
void note(std::string_view text);
// `text` in grey on standard error if that has colour, plain otherwise; with a newline.
void note_line(std::string_view text);

// Text of a model or a tool for a terminal: control characters but newline and tab are made
// visible, so that a text cannot steer the terminal.
std::string harmless(std::string_view text);

// One line of standard input without its newline; empty optional at the end. Error(kIo).
std::optional<std::string> read_line();

// All of standard input, byte for byte. Error(kIo).
std::string read_stdin();
// All of a file, or of standard input for "-". Error(kIo).
std::string read_text(const std::string& path);

std::string format_bytes(uint64_t bytes);    // "13.8 GB" (powers of ten), "512 bytes"
std::string format_seconds(double seconds);  // "1.2 ms", "3.4 s", "2 min 5 s"
std::string format_fixed(double value, int digits);

// A line on standard error that shows how far something is; only on a terminal, and only when it
// takes longer than a moment. The destructor wipes it away.
class ProgressBar {
 public:
  explicit ProgressBar(std::string title);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // detail: what follows the bar, e.g. "3.1 of 13.8 GB".
  void update(uint64_t done, uint64_t total, std::string_view detail);
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_;
  Clock::time_point start_, last_;
  bool shown_ = false;
};

}  // namespace moxie::cli
