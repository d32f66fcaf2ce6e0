// `moxie completion SHELL`: a completion script made from the parser itself, so that it cannot lag
// behind the options.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "commands.h"
#include "demo_model.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct OptionInfo {
  std::vector<std::string> names;    // "--threads", "-t"
  std::vector<std::string> choices;  // of the value, when they are few and known
  bool takes_value = false;
  std::string help;  // first line
};

struct CommandInfo {
  std::string name, help;
  std::vector<OptionInfo> options;
  std::vector<std::string> choices;  // of the positional argument, when known
  bool takes_model = false;          // a positional MODEL, for which "demo" is a name
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// CLI11 writes a closed set into the type name: "TEXT:{low,medium,high}".
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  std::vector<std::string> choices;
  if (open == std::string::npos || close == std::string::npos || close < open) return choices;
  std::string word;
  for (size_t i = open + 1; i <= close; ++i) {
    if (type[i] == ',' || i == close) {
      if (!word.empty()) choices.push_back(word);
      word.clear();
    } else {
      word += type[i];
    }
  }
  return choices;
}

CommandInfo describe(const CLI::App& app) {
  CommandInfo info{app.get_name(), first_line(app.get_description()), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      if (info.choices.empty()) info.choices = choices_of(*option);
      if (option->get_name() == "MODEL") info.takes_model = true;
      continue;
    }
    OptionInfo entry;
    for (const std::string& name : option->get_lnames()) entry.names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) entry.names.push_back("-" + name);
    entry.choices = choices_of(*option);
    entry.takes_value = option->get_items_expected_max() > 0;
    entry.help = first_line(option->get_description());
    info.options.push_back(std::move(entry));
  }
  return info;
}

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

std::string bash_script(const CommandInfo& root, const std::vector<CommandInfo>& commands) {
  std::vector<std::string> names;
  for (const CommandInfo& command : commands) names.push_back(command.name);
  for (const OptionInfo& option : root.options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  std::string text = concat(
      "# bash completion of moxie; load it with: source <(moxie completion bash)\n"
      "_moxie() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"",
      join(names, " "),
      "\" -- \"$cur\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${COMP_WORDS[1]} in\n");
  for (const CommandInfo& command : commands) {
    text += concat("    ", command.name, ")\n      case $prev in\n");
    std::vector<std::string> words;
    for (const OptionInfo& option : command.options) {
      words.insert(words.end(), option.names.begin(), option.names.end());
      if (!option.takes_value) continue;
      text += concat("        ", join(option.names, "|"), ") ");
      if (option.choices.empty())
        text += "COMPREPLY=($(compgen -f -- \"$cur\"))";
      else
        text += concat("COMPREPLY=($(compgen -W \"", join(option.choices, " "), "\" -- \"$cur\"))");
      text += "; return ;;\n";
    }
    text += concat("      esac\n      if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"",
                   join(words, " "), "\" -- \"$cur\"))\n      else COMPREPLY=($(compgen ",
                   command.takes_model       ? concat("-f -W ", kDemoName)
                   : command.choices.empty() ? "-f"
                                             : "-W \"" + join(command.choices, " ") + "\"",
                   " -- \"$cur\")); fi ;;\n");
  }
  return text + "  esac\n}\ncomplete -o filenames -F _moxie moxie\n";
}

// In single quotes of a shell; `also` is a further character to escape with a backslash.
std::string quoted(const std::string& text, const char* also = "") {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (std::string(also).find(c) != std::string::npos)
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string zsh_script(const CommandInfo& root, const std::vector<CommandInfo>& commands) {
  const auto options = [](const CommandInfo& command) {
    std::string text;
    for (const OptionInfo& option : command.options) {
      for (const std::string& name : option.names) {
        text += concat(" \\\n        '", name, "[", quoted(option.help, "[]:"), "]");
        if (option.takes_value)
          text += option.choices.empty() ? ":value:_files"
                                         : concat(":value:(", join(option.choices, " "), ")");
        text += "'";
      }
    }
    return text;
  };
  std::string text =
      "#compdef moxie\n"
      "# zsh completion of moxie; load it with: source <(moxie completion zsh)\n"
      "_moxie_model() { compadd demo; _files }\n"
      "_moxie() {\n"
      "  local -a commands=(\n";
  for (const CommandInfo& command : commands)
    text += concat("    '", command.name, ":", quoted(command.help, ":"), "'\n");
  text += concat(
      "  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    _arguments",
      options(root),
      "\n    return\n"
      "  fi\n"
      "  local command=${words[2]}\n"
      "  shift words; (( CURRENT-- ))\n"
      "  case $command in\n");
  for (const CommandInfo& command : commands) {
    text +=
        concat("    ", command.name, ")\n      _arguments", options(command), " \\\n        '*:",
               command.takes_model       ? "model:_moxie_model"
               : command.choices.empty() ? "file:_files"
                                         : "word:(" + join(command.choices, " ") + ")",
               "' ;;\n");
  }
  return text +
         "  esac\n}\n"
         "if [ \"$funcstack[1]\" = _moxie ]; then _moxie \"$@\"; else compdef _moxie moxie; fi\n";
}

std::string fish_script(const CommandInfo& root, const std::vector<CommandInfo>& commands) {
  const auto add_options = [](const CommandInfo& command, const std::string& condition,
                              std::string& text) {
    for (const OptionInfo& option : command.options) {
      text += concat("complete -c moxie -n '", condition, "'");
      for (const std::string& name : option.names)
        text += name[1] == '-' ? concat(" -l ", name.substr(2)) : concat(" -s ", name.substr(1));
      if (option.takes_value)
        text += option.choices.empty() ? " -r" : concat(" -x -a '", join(option.choices, " "), "'");
      text += concat(" -d '", quoted(option.help), "'\n");
    }
  };
  std::string text =
      "# fish completion of moxie; install it with:\n"
      "#   moxie completion fish > ~/.config/fish/completions/moxie.fish\n";
  for (const CommandInfo& command : commands)
    text += concat("complete -c moxie -f -n __fish_use_subcommand -a ", command.name, " -d '",
                   quoted(command.help), "'\n");
  add_options(root, "__fish_use_subcommand", text);
  for (const CommandInfo& command : commands) {
    const std::string condition = concat("__fish_seen_subcommand_from ", command.name);
    add_options(command, condition, text);
    if (command.takes_model)
      text += concat("complete -c moxie -n '", condition, "' -a ", kDemoName,
                     " -d 'the model that comes with moxie'\n");
    if (!command.choices.empty())
      text += concat("complete -c moxie -f -n '", condition, "' -a '", join(command.choices, " "),
                     "'\n");
  }
  return text;
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("completion", "Print a script that completes moxie's commands in a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n"
      "  source <(moxie completion bash)                  in ~/.bashrc\n"
      "  source <(moxie completion zsh)                   in ~/.zshrc, after compinit\n"
      "  moxie completion fish > ~/.config/fish/completions/moxie.fish");
  command->callback([&app, shell] {
    std::vector<CommandInfo> commands;
    for (const CLI::App* sub : app.get_subcommands({})) commands.push_back(describe(*sub));
    const CommandInfo root = describe(app);
    print(*shell == "bash"  ? bash_script(root, commands)
          : *shell == "zsh" ? zsh_script(root, commands)
                            : fish_script(root, commands));
  });
}

}  // namespace moxie::cli
