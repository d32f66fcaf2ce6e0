#include "answer_printer.h"

#include "base/check.h"

namespace moxie::cli {

AnswerPrinter::AnswerPrinter(std::string_view show_reasoning, bool silent)
    : terminal_(stdout_is_terminal()),
      color_(stdout_has_color()),
      show_reasoning_(show_reasoning == "show" || (show_reasoning == "auto" && terminal_)),
      silent_(silent) {}

TurnListener AnswerPrinter::listener() {
  TurnListener listener;
  listener.on_prefill = [this](int64_t done, int64_t total) {
    bar_.update(static_cast<uint64_t>(done), static_cast<uint64_t>(total),
                concat(done, " of ", total, " tokens"));
    if (done == total) bar_.clear();
  };
  if (silent_) return listener;
  listener.on_begin = [this](Part part, const Message& header) { begin(part, header); };
  listener.on_text = [this](Part part, std::string_view piece) { text(part, piece); };
  listener.on_end = [this](Part part) { end(part); };
  return listener;
}

void AnswerPrinter::begin(Part part, const Message& header) {
  begun_ = false;
  to_stderr_ = part == Part::kReasoning && !terminal_;
  heading_.clear();
  if (part != Part::kCall || !terminal_) return;
  heading_ = concat("-> ", harmless(function_name(header)), " ");
  text(part, "");
}

void AnswerPrinter::text(Part part, std::string_view piece) {
  if (part == Part::kReasoning && !show_reasoning_) return;
  if (part == Part::kCall && !terminal_) return;
  if (!begun_) {
    // A blank line between parts.
    const Stream& stream = to_stderr_ ? err_ : out_;
    if (stream.used) write(stream.at_line_start ? "\n" : "\n\n");
    if (part == Part::kReasoning && color_ && !to_stderr_) {
      print("\033[2m");
      dimmed_ = true;
    }
    begun_ = true;
    write(heading_);
  }
  write(terminal_ ? harmless(piece) : std::string(piece));
}

void AnswerPrinter::end(Part) {
  if (dimmed_) print("\033[0m");
  dimmed_ = false;
  // What follows goes to the other stream, which may be the same file.
  if (to_stderr_ && !err_.at_line_start) write("\n");
}

void AnswerPrinter::write(std::string_view piece) {
  if (piece.empty()) return;
  Stream& stream = to_stderr_ ? err_ : out_;
  if (to_stderr_)
    note(piece);
  else
    print(piece);
  stream.used = true;
  stream.at_line_start = piece.back() == '\n';
}

void AnswerPrinter::finish() {
  bar_.clear();
  if (dimmed_) print("\033[0m");
  dimmed_ = false;
  for (const bool to_stderr : {false, true}) {
    to_stderr_ = to_stderr;
    if (!(to_stderr ? err_ : out_).at_line_start) write("\n");
  }
  out_ = err_ = {};
}

}  // namespace moxie::cli
