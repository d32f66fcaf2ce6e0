// Shows a turn while it streams.
//
// On a terminal all of it goes to standard output: reasoning dimmed, then the answer, tool calls
// with an arrow. Otherwise standard output gets what the model says to the user and nothing else;
// reasoning, if wanted, goes to standard error, and calls are left to the caller.
#pragma once

#include <string>
#include <string_view>

#include "conversation.h"
#include "terminal.h"

namespace moxie::cli {

class AnswerPrinter {
 public:
  // show_reasoning: "auto", "show" or "hide".
  explicit AnswerPrinter(std::string_view show_reasoning, bool silent = false);

  TurnListener listener();
  // Ends the line and the dimming; call it whatever became of the turn.
  void finish();

 private:
  void begin(Part part, const Message& header);
  void text(Part part, std::string_view text);
  void end(Part part);
  void write(std::string_view text);

  ProgressBar bar_{"reading the prompt"};
  const bool terminal_, color_, show_reasoning_, silent_;
  bool to_stderr_ = false;  // where the present part goes
  bool begun_ = false;      // the present part has shown something
  bool dimmed_ = false;
  std::string heading_;  // before the first text of the present part
  struct Stream {
    bool used = false, at_line_start = true;
  } out_, err_;
};

}  // namespace moxie::cli
