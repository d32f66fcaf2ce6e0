// moxie: the command line. Only what all commands share: parsing, and how failures are told.

#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/check.h"
#include "commands.h"
#include "interrupt.h"
#include "moxie/error.h"
#include "moxie/version.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

constexpr char kDescription[] =
    "moxie runs OpenAI's gpt-oss models (mixture of experts in MXFP4) on this machine.";

constexpr char kFooter[] =
    "MODEL is a folder with config.json and *.safetensors, an id such as openai/gpt-oss-20b that "
    "is in\n"
    "the Hugging Face cache, or demo: the small model that comes with moxie, which `run` and "
    "`chat` use\n"
    "when none is named. `moxie COMMAND --help` explains a command, with examples.\n"
    "\n"
    "Examples:\n"
    "  moxie run \"What is 347 + 58?\"\n"
    "  moxie chat openai/gpt-oss-20b\n"
    "  moxie run ./gpt-oss-20b \"Why is the sky blue?\"\n"
    "  moxie doctor\n"
    "\n"
    "Exit codes: 0 done, 1 it did not work, 2 the command line is wrong, 130 stopped by Ctrl-C.";

// Shorter than the library's: choices and defaults, but no ranges (errors name them) and no lists
// of which option excludes which.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    const std::string type = option->get_type_name();
    const size_t open = type.find('{');
    if (open != std::string::npos)
      text = " " + type.substr(open);
    else if (!option->get_positional() && !type.empty())
      text = " " + type.substr(0, type.find(':'));
    if (!option->get_default_str().empty())
      text += " (default " + without_brackets(option->get_default_str()) + ")";
    return text;
  }

 private:
  static std::string without_brackets(const std::string& text) {  // of a list
    return text.front() == '[' ? text.substr(1, text.size() - 2) : text;
  }
};

// The command that was being parsed, for "moxie run --help".
const CLI::App& innermost(const CLI::App& app) {
  for (const CLI::App* sub : app.get_subcommands()) return innermost(*sub);
  return app;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : full_name(*app.get_parent()) + " " + app.get_name();
}

// One line even if the library's sentence has several.
std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

int fail(int exit_code, const std::string& sentence) {
  note(concat("moxie: error: ", one_line(sentence), "\n"));
  return exit_code;
}

int fail_usage(const CLI::App& app, const std::string& sentence) {
  return fail(2, concat(sentence, "; see `", full_name(innermost(app)), " --help`"));
}

// Letters to add, drop, change or swap with their neighbour to get from a to b.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// ", did you mean NAME?" if one of the names is near.
std::string suggestion(const std::string& word, const std::vector<std::string>& names) {
  const std::string* best = nullptr;
  size_t least = word.size() / 3 + 1;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(word, name);
    if (distance > least || (best != nullptr && distance == least)) continue;
    least = distance;
    best = &name;
  }
  return best == nullptr ? "" : concat(" (did you mean ", *best, "?)");
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

int fail_to_parse(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = innermost(app);
  // A wrong word at the top level is also reported as a missing command; the word says more.
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr || &command == &app) {
    std::vector<std::string> words = command.remaining();
    // At the top level the first word decides; behind a command an option is the likelier mistake.
    const auto option = std::find_if(words.begin(), words.end(), [](const std::string& word) {
      return word.size() > 1 && word[0] == '-';
    });
    if (option != words.end() && (&command != &app || option == words.begin())) {
      const std::string name = option->substr(0, option->find('='));
      return fail_usage(app, concat(full_name(command), " has no option ", name,
                                    suggestion(name, option_names(command))));
    }
    if (!words.empty() && &command == &app) {
      std::vector<std::string> names;
      for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
      return fail_usage(app, concat("moxie has no command '", words.front(), "'",
                                    suggestion(words.front(), names)));
    }
    if (!words.empty())
      return fail_usage(app, concat(full_name(command), " does not expect '", words.front(), "'"));
  }
  if (&command == &app && app.get_subcommands().empty() && app.remaining().empty() &&
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    note(app.help());
    return 2;
  }
  return fail_usage(app, one_line(error.what()));
}

int run_program(int argc, char** argv) {
  CLI::App app(kDescription, "moxie");
  app.set_version_flag("--version", concat("moxie ", version()), "Print the version and exit");
  app.formatter(std::make_shared<HelpFormatter>());  // which the commands inherit
  app.get_formatter()->column_width(34);
  app.footer(kFooter);
  app.require_subcommand(1);
  add_chat(app);
  add_run(app);
  add_bench(app);
  add_eval(app);
  add_doctor(app);
  add_logits(app);
  add_tokenize(app);
  add_inspect(app);
  add_quantize(app);
  add_convert(app);
  add_synth(app);
  add_completion(app);

  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::CallForVersion&) {
    print(concat("moxie ", version(), "\n"));
    return 0;
  } catch (const CLI::ParseError& error) {
    return fail_to_parse(app, error);
  } catch (const UsageError& error) {
    return fail_usage(app, error.what());
  }
}

}  // namespace
}  // namespace moxie::cli

int main(int argc, char** argv) {
  using namespace moxie::cli;
  // A closed pipe is seen where it is written to, so that nothing half-made is left behind.
  signal(SIGPIPE, SIG_IGN);
  install_interrupt_handler();
  try {
    return run_program(argc, argv);
  } catch (const Interrupted&) {
    return 130;
  } catch (const OutputClosed&) {
    return 141;
  } catch (const moxie::Error& error) {
    return fail(1, error.what());
  } catch (const std::bad_alloc&) {
    return fail(1, "out of memory; a smaller --ctx needs less");
  } catch (const std::exception& error) {
    return fail(1, moxie::concat("internal error: ", error.what()));
  }
}
