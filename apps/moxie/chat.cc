// `moxie chat`: a conversation, line by line.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "answer_options.h"
#include "answer_printer.h"
#include "base/check.h"
#include "chat_settings.h"
#include "commands.h"
#include "conversation.h"
#include "interrupt.h"
#include "line_editor.h"
#include "model_options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct Options {
  std::string model, load;
  bool echo = false;
  AnswerOptions answer;
};

constexpr char kCommands[] =
    "  \"\"\"                  begins and ends a text of several lines\n"
    "  Ctrl-G               opens $EDITOR; what is saved there is sent\n"
    "  Ctrl-C               stops the answer, or gives up the line; twice leaves\n"
    "  /result TEXT         the result of the tool call that waits for one\n"
    "  /show                the settings; /show messages: what was said\n"
    "  /save FILE           writes the conversation; /load FILE continues it\n"
    "  /reset               forgets the conversation and keeps the settings\n"
    "  /bye                 leaves (so does Ctrl-D)\n"
    "  /?                   this help\n";

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Cuts "word rest" in two.
std::pair<std::string, std::string> first_word(const std::string& text) {
  const size_t blank = text.find_first_of(" \t");
  if (blank == std::string::npos) return {text, {}};
  return {text.substr(0, blank), trimmed(text.substr(blank))};
}

void cancel_session(void* session) { static_cast<Session*>(session)->cancel(); }

class Chat {
 public:
  Chat(const Options& options, LoadedModel& loaded)
      : options_(options),
        loaded_(loaded),
        conversation_(loaded, make_settings(options.answer, loaded.generation)),
        reasoning_(options.answer.reasoning) {}

  void run() {
    if (!options_.load.empty()) load(options_.load);
    if (editor_.is_terminal()) {
      note_line(concat(loaded_.folder.string(), "; ", loaded_.model->backend().description(),
                       "; seed ", conversation_.settings.sampling.seed));
      note_line("Say something, or /? for help.");
    }
    while (step()) {
    }
  }

 private:
  // Reads and obeys one line; false at the end.
  bool step() {
    std::string line;
    switch (read(prompt(), line)) {
      case LineEditor::Outcome::kEnd:
        if (editor_.is_terminal()) print("\n");
        return false;
      case LineEditor::Outcome::kInterrupted:
        if (interrupted_) throw Interrupted{};
        interrupted_ = true;
        note_line("(Ctrl-C once more leaves)");
        return true;
      case LineEditor::Outcome::kEdited:
        if (editor_.is_terminal()) print(harmless(line) + "\n");
        break;
      case LineEditor::Outcome::kLine:
        if (line.rfind("\"\"\"", 0) == 0 && !read_several(line)) return true;
        break;
    }
    interrupted_ = false;
    if (trimmed(line).empty()) return true;
    editor_.remember(line);
    try {
      if (line[0] == '/') return obey(trimmed(line));
      say(line);
    } catch (const Error& error) {
      // In a script a failure ends the program; a person can go on.
      if (!editor_.is_terminal()) throw;
      note(concat("moxie: error: ", error.what(), "\n"));
    }
    return true;
  }

  // With --echo a line of a pipe is shown as if it had been typed.
  LineEditor::Outcome read(const std::string& shown, std::string& line) {
    const LineEditor::Outcome outcome = editor_.read(shown, line);
    if (options_.echo && outcome == LineEditor::Outcome::kLine && !stdin_is_terminal())
      print(concat(shown, stdout_is_terminal() ? harmless(line) : line, "\n"));
    return outcome;
  }

  std::string prompt() const {
    const Message* call = conversation_.pending_call();
    if (call == nullptr) return ">>> ";
    return concat("result of ", harmless(function_name(*call)), "> ");
  }

  // From the line that begins with """ to the one that ends with it.
  bool read_several(std::string& text) {
    text.erase(0, 3);
    for (;;) {
      if (text.size() >= 3 && text.compare(text.size() - 3, 3, "\"\"\"") == 0) {
        text.erase(text.size() - 3);
        if (!text.empty() && text.front() == '\n') text.erase(0, 1);
        if (!text.empty() && text.back() == '\n') text.pop_back();
        return true;
      }
      std::string line;
      const LineEditor::Outcome outcome = read("... ", line);
      if (outcome == LineEditor::Outcome::kInterrupted) return false;
      MOXIE_CHECK(outcome != LineEditor::Outcome::kEnd, kInvalidArgument,
                  "the text that \"\"\" began has no end: a closing \"\"\" is missing");
      text += '\n';
      text += line;
    }
  }

  void say(const std::string& text) {
    const size_t before = conversation_.messages.size();
    conversation_.add(text);
    AnswerPrinter printer(reasoning_);
    try {
      Turn turn;
      {
        const InterruptScope interrupt(cancel_session, &conversation_.session());
        turn = conversation_.speak(printer.listener());
      }
      printer.finish();
      show_end(turn);
    } catch (...) {
      // Nothing came of it: as if it had not been said.
      conversation_.messages.resize(before);
      throw;
    }
  }

  void show_end(const Turn& turn) {
    if (turn.reason == StopReason::kCancelled) note_line("(stopped)");
    const std::string end = describe_end(turn, conversation_.settings, loaded_.context);
    if (!end.empty()) note_line(end);
    if (turn.call && !stdout_is_terminal()) print(call_json(*turn.call) + "\n");
    if (!options_.answer.quiet)
      note_line(describe_speed(turn.stats, conversation_.settings.sampling));
  }

  bool obey(const std::string& line) {
    const auto [command, rest] = first_word(line);
    if (command == "/bye" || command == "/exit" || command == "/quit") return false;
    if (command == "/?" || command == "/help") {
      print(concat(kCommands, setting_help()));
    } else if (command == "/set") {
      const auto [name, value] = first_word(rest);
      set(conversation_.settings, reasoning_, name, value);
    } else if (command == "/show") {
      show_state(rest);
    } else if (command == "/save") {
      save(rest);
    } else if (command == "/load") {
      load(rest);
    } else if (command == "/reset") {
      conversation_.messages.clear();
    } else if (command == "/result") {
      MOXIE_CHECK(conversation_.pending_call() != nullptr, kInvalidArgument,
                  "/result: no tool call waits for a result");
      say(rest);
    } else {
      throw make_error(ErrorCode::kInvalidArgument, "there is no command ", harmless(command),
                       "; /? lists them, and a text that begins with / can be put in \"\"\"");
    }
    return true;
  }

  void show_state(const std::string& what) {
    MOXIE_CHECK(what.empty() || what == "messages", kInvalidArgument,
                "/show prints the settings, /show messages the conversation");
    if (what.empty()) {
      print(show(conversation_.settings, reasoning_));
      print(concat("messages     ", conversation_.messages.size(), "\n"));
      return;
    }
    for (const Message& message : conversation_.messages) {
      std::string head = name(message.role);
      if (!message.name.empty()) head += " " + message.name;
      if (!message.channel.empty()) head += " " + message.channel;
      if (!message.recipient.empty()) head += " to " + message.recipient;
      print(harmless(concat("[", head, "] ", message.content, "\n")));
    }
  }

  void save(const std::string& file) {
    MOXIE_CHECK(!file.empty(), kInvalidArgument, "/save wants the name of a file");
    const std::string part = file + ".part";
    const std::string text = conversation_.to_json();
    std::FILE* out = std::fopen(part.c_str(), "wb");
    MOXIE_CHECK(out != nullptr, kIo, "cannot write ", part, ": ", std::strerror(errno));
    const bool written = std::fwrite(text.data(), 1, text.size(), out) == text.size();
    const bool closed = std::fclose(out) == 0;
    if (!written || !closed || std::rename(part.c_str(), file.c_str()) != 0) {
      const int reason = errno;
      std::remove(part.c_str());
      throw make_error(ErrorCode::kIo, "cannot write ", file, ": ", std::strerror(reason));
    }
    note_line(concat(conversation_.messages.size(), " messages written to ", file));
  }

  void load(const std::string& file) {
    MOXIE_CHECK(!file.empty(), kInvalidArgument, "/load wants the name of a file");
    conversation_.load_json(read_text(file), file);
    note_line(concat(conversation_.messages.size(), " messages read from ", file));
  }

  const Options& options_;
  LoadedModel& loaded_;
  Conversation conversation_;
  std::string reasoning_;
  LineEditor editor_;
  bool interrupted_ = false;  // the last thing that happened was Ctrl-C
};

}  // namespace

void add_chat(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model");
  command->add_option("MODEL", options->model,
                      "Folder or id of the model; without it, moxie's own demo model");
  command->add_option("--load", options->load, "Continue a conversation that /save has written");
  command->add_flag("--echo", options->echo,
                    "Show the lines of a pipe as if they had been typed, behind their prompts");
  add_answer_options(*command, options->answer);
  command->footer(
      std::string("In the chat:\n") + kCommands + setting_help() +
      "\n"
      "When the model calls a tool (--tools), the call is shown and the next line, or /result "
      "TEXT, is\n"
      "its result. When standard input is no terminal, each of its lines is said in turn, and the\n"
      "answers go to standard output; the first error ends the program.\n"
      "\n"
      "Examples:\n"
      "  moxie chat\n"
      "  moxie chat openai/gpt-oss-20b\n"
      "  moxie chat ./gpt-oss-20b --effort high --tools weather.json\n"
      "  printf 'My name is Ada.\\nWhat is my name?\\n' | moxie chat ./gpt-oss-20b");
  command->callback([options] {
    LoadedModel loaded = load_model(find_model(options->model, "chat"), options->answer.machine);
    Chat(*options, loaded).run();
  });
}

}  // namespace moxie::cli
