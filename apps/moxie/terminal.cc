#include "terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/env.h"

namespace moxie::cli {
namespace {

bool has_color(int fd) { return isatty(fd) && !env::no_color() && !env::dumb_terminal(); }

std::string read_descriptor(int fd, std::string_view name) {
  std::string text;
  size_t used = 0;
  for (;;) {
    if (text.size() - used < 65536) text.resize(std::max<size_t>(2 * text.size(), 131072));
    const ssize_t got = read(fd, text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    MOXIE_CHECK(got >= 0, kIo, "cannot read ", name, ": ", std::strerror(errno));
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  text.resize(used);
  return text;
}

}  // namespace

bool stdin_is_terminal() { return isatty(STDIN_FILENO) != 0; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) != 0; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) != 0; }
bool stdout_has_color() { return has_color(STDOUT_FILENO); }
bool stderr_has_color() { return has_color(STDERR_FILENO); }

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) throw OutputClosed{};
    MOXIE_CHECK(written >= 0, kIo, "cannot write to standard output: ", std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void note(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void note_line(std::string_view text) {
  if (stderr_has_color())
    note(concat("\033[2m", text, "\033[0m\n"));
  else
    note(concat(text, "\n"));
}

std::string harmless(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
      out += '^';
      out += static_cast<char>(c ^ 0x40);
    } else if (c == 0xc2 && i + 1 < text.size() && (text[i + 1] & 0xe0) == 0x80) {
      out += "\xef\xbf\xbd";  // U+0080 .. U+009F steer some terminals too
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<std::string> read_line() {
  static std::string* const buffer = new std::string;  // what was read beyond the line
  for (size_t searched = 0;;) {
    const size_t newline = buffer->find('\n', searched);
    if (newline != std::string::npos) {
      std::string line = buffer->substr(0, newline);
      buffer->erase(0, newline + 1);
      return line;
    }
    searched = buffer->size();
    char piece[4096];
    const ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    MOXIE_CHECK(got >= 0, kIo, "cannot read standard input: ", std::strerror(errno));
    if (got == 0) {
      if (buffer->empty()) return std::nullopt;
      return std::exchange(*buffer, {});
    }
    buffer->append(piece, static_cast<size_t>(got));
  }
}

std::string read_stdin() { return read_descriptor(STDIN_FILENO, "standard input"); }

std::string read_text(const std::string& path) {
  if (path == "-") return read_stdin();
  std::FILE* file = std::fopen(path.c_str(), "rb");
  MOXIE_CHECK(file != nullptr, kIo, "cannot open ", path, ": ", std::strerror(errno));
  try {
    std::string text = read_descriptor(fileno(file), path);
    std::fclose(file);
    return text;
  } catch (...) {
    std::fclose(file);
    throw;
  }
}

std::string format_fixed(double value, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return concat(bytes, " bytes");
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return concat(format_fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0), " ", kUnits[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 1e-3) return concat(format_fixed(seconds * 1e6, 0), " us");
  if (seconds < 1) return concat(format_fixed(seconds * 1e3, 1), " ms");
  if (seconds < 60) return concat(format_fixed(seconds, 2), " s");
  const int64_t whole = std::llround(seconds);
  return concat(whole / 60, " min ", whole % 60, " s");
}

ProgressBar::ProgressBar(std::string title)
    : title_(std::move(title)), start_(Clock::now()), last_(start_) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::update(uint64_t done, uint64_t total, std::string_view detail) {
  if (!stderr_is_terminal()) return;
  const Clock::time_point now = Clock::now();
  if (now - start_ < std::chrono::milliseconds(300)) return;
  if (shown_ && now - last_ < std::chrono::milliseconds(80) && done < total) return;
  last_ = now;
  shown_ = true;
  winsize size = {};
  const size_t width =
      ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  const double share =
      total == 0 ? 0 : std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  constexpr size_t kCells = 24;
  const size_t filled = static_cast<size_t>(share * kCells + 0.5);
  std::string line =
      concat(title_, " [", std::string(filled, '='), std::string(kCells - filled, ' '), "] ",
             format_fixed(share * 100, 0), "% ", detail);
  if (line.size() >= width) line.resize(width - 1);
  note(concat("\r", line, "\033[K"));
}

void ProgressBar::clear() {
  if (shown_) note("\r\033[K");
  shown_ = false;
}

}  // namespace moxie::cli
