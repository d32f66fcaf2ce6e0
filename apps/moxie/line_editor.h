// Reads lines from the user: with editing and history on a terminal, plainly otherwise.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace moxie::cli {

class LineEditor {
 public:
  enum class Outcome {
    kLine,
    kEdited,       // Ctrl-G: the text comes from $EDITOR, and may have several lines
    kInterrupted,  // Ctrl-C: what was typed is gone
    kEnd,          // Ctrl-D on an empty line, or the end of the file
  };
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  bool is_terminal() const;
  // The prompt is shown on a terminal only. Throws Error(kIo).
  Outcome read(const std::string& prompt, std::string& text);
  // Adds to the history and to its file; multi-line texts are not written to it.
  void remember(const std::string& text);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null when not on a terminal
};

// Lets the user edit `text` in $VISUAL or $EDITOR; empty optional when none is set, or when it
// failed (it has told why).
std::optional<std::string> edit_text(const std::string& text);

}  // namespace moxie::cli
