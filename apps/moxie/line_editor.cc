#include "line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/env.h"
#include "interrupt.h"
#include "terminal.h"

extern char** environ;

namespace moxie::cli {
namespace {

constexpr int kHistorySize = 2000;

std::string without_newline(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

// Runs `command FILE` as a shell would; true when it ended well.
bool run_editor(const std::string& command, const std::string& file) {
  const std::string script = command + " \"$1\"";
  const char* const arguments[] = {"sh", "-c", script.c_str(), "sh", file.c_str(), nullptr};
  // The editor gets the signals as a program started by a shell does.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t child = 0;
  const int failure = posix_spawn(&child, "/bin/sh", nullptr, &attributes,
                                  const_cast<char* const*>(arguments), environ);
  posix_spawnattr_destroy(&attributes);
  if (failure != 0) {
    note_line(concat("cannot start ", command, ": ", std::strerror(failure)));
    return false;
  }
  // Ctrl-C while the editor runs is the editor's.
  const InterruptScope scope;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  note_line(concat(command, " failed; the text is as it was"));
  return false;
}

}  // namespace

std::optional<std::string> edit_text(const std::string& text) {
  const std::optional<std::string> command = env::editor();
  if (!command) {
    note_line("Ctrl-G opens $VISUAL or $EDITOR, and neither is set");
    return std::nullopt;
  }
  std::string path = (env::temporary_folder() / "moxie-XXXXXX.txt").string();
  const int fd = mkstemps(path.data(), 4);
  if (fd < 0) {
    note_line(concat("cannot create ", path, ": ", std::strerror(errno)));
    return std::nullopt;
  }
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  std::optional<std::string> result;
  if (written && run_editor(*command, path)) result = without_newline(read_text(path));
  unlink(path.c_str());
  return result;
}

struct LineEditor::Editor {
  EditLine* line = nullptr;
  History* history = nullptr;
  std::filesystem::path history_path;
  std::string prompt;
  bool interrupted = false;
  std::optional<std::string> edited;

  static Editor& of(EditLine* line) {
    void* data = nullptr;
    el_get(line, EL_CLIENTDATA, &data);
    return *static_cast<Editor*>(data);
  }
  static char* show_prompt(EditLine* line) { return of(line).prompt.data(); }

  static unsigned char on_interrupt(EditLine* line, int) {
    of(line).interrupted = true;
    return CC_NEWLINE;
  }
  static unsigned char on_edit(EditLine* line, int) {
    Editor& self = of(line);
    const LineInfo* info = el_line(line);
    const std::string typed(info->buffer, static_cast<size_t>(info->lastchar - info->buffer));
    note("\n");
    el_set(line, EL_PREP_TERM, 0);
    self.edited = edit_text(typed);
    el_set(line, EL_PREP_TERM, 1);
    return self.edited ? CC_NEWLINE : CC_REDISPLAY;
  }
};

LineEditor::LineEditor() {
  if (!stdin_is_terminal() || !stdout_is_terminal() || env::dumb_terminal()) return;
  // libedit takes what is typed apart by the locale; without one, UTF-8 is what terminals send.
  setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");

  editor_ = std::make_unique<Editor>();
  Editor& self = *editor_;
  self.line = el_init("moxie", stdin, stdout, stderr);
  MOXIE_CHECK(self.line != nullptr, kIo, "cannot set the terminal up for editing");
  el_set(self.line, EL_CLIENTDATA, &self);
  el_set(self.line, EL_PROMPT, &Editor::show_prompt);
  el_set(self.line, EL_EDITOR, "emacs");
  // While a line is edited Ctrl-C is a key like others; outside of that it is a signal.
  el_set(self.line, EL_SETTY, "-d", "-isig", nullptr);
  el_set(self.line, EL_ADDFN, "moxie-interrupt", "give the line up", &Editor::on_interrupt);
  el_set(self.line, EL_ADDFN, "moxie-edit", "edit the text in $EDITOR", &Editor::on_edit);
  el_set(self.line, EL_BIND, "^C", "moxie-interrupt", nullptr);
  el_set(self.line, EL_BIND, "^G", "moxie-edit", nullptr);
  el_set(self.line, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_set(self.line, EL_BIND, "\033[1;5C", "em-next-word", nullptr);
  el_set(self.line, EL_BIND, "\033[1;5D", "ed-prev-word", nullptr);
  el_set(self.line, EL_BIND, "\033[3~", "ed-delete-next-char", nullptr);

  self.history = history_init();
  HistEvent event;
  history(self.history, &event, H_SETSIZE, kHistorySize);
  history(self.history, &event, H_SETUNIQUE, 1);
  el_set(self.line, EL_HIST, history, self.history);
  if (const auto path = env::history_file()) {
    std::error_code ignored;
    std::filesystem::create_directories(path->parent_path(), ignored);
    if (!ignored) {
      self.history_path = *path;
      history(self.history, &event, H_LOAD, self.history_path.c_str());
    }
  }
}

LineEditor::~LineEditor() {
  if (editor_ == nullptr) return;
  if (editor_->history != nullptr) history_end(editor_->history);
  if (editor_->line != nullptr) el_end(editor_->line);
}

bool LineEditor::is_terminal() const { return editor_ != nullptr; }

LineEditor::Outcome LineEditor::read(const std::string& prompt, std::string& text) {
  if (editor_ == nullptr) {
    if (stdin_is_terminal() && stdout_is_terminal()) print(prompt);  // TERM=dumb
    std::optional<std::string> line = read_line();
    if (!line) return Outcome::kEnd;
    text = std::move(*line);
    if (!text.empty() && text.back() == '\r') text.pop_back();
    return Outcome::kLine;
  }
  Editor& self = *editor_;
  self.prompt = prompt;
  self.interrupted = false;
  self.edited.reset();
  // Before the prompt is shown, so that no Ctrl-C behind it is taken for a signal.
  el_set(self.line, EL_PREP_TERM, 1);
  int count = 0;
  const char* line = el_gets(self.line, &count);
  if (self.interrupted) return Outcome::kInterrupted;
  if (self.edited) {
    text = std::move(*self.edited);
    return Outcome::kEdited;
  }
  if (line == nullptr || count <= 0) return Outcome::kEnd;
  text = without_newline(std::string(line, static_cast<size_t>(count)));
  return Outcome::kLine;
}

void LineEditor::remember(const std::string& text) {
  if (editor_ == nullptr || text.empty()) return;
  HistEvent event;
  history(editor_->history, &event, H_ENTER, text.c_str());
  if (editor_->history_path.empty() || text.find('\n') != std::string::npos) return;
  // What is said to a model is nobody else's business.
  const mode_t mask = umask(0077);
  history(editor_->history, &event, H_SAVE, editor_->history_path.c_str());
  umask(mask);
}

}  // namespace moxie::cli
