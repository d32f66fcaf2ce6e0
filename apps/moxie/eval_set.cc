#include "eval_set.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <map>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "eval_score.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

// A misspelt member would otherwise go unnoticed and change what is measured.
void refuse_other_members(const json::Object& object, const std::vector<std::string_view>& known,
                          const std::string& where) {
  for (const auto& member : object) {
    const std::string_view key(member.key().data(), member.key().size());
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const std::string_view name : known) list += concat(list.empty() ? "" : ", ", name);
    throw make_error(ErrorCode::kInvalidArgument, where, ": expected no members but ", list,
                     "; found ", json::quote(key));
  }
}

std::string required_text(const json::Object& object, const char* key, const std::string& where) {
  const std::optional<std::string> text = json::get_string(object, key, where);
  MOXIE_CHECK(text.has_value(), kInvalidArgument, where, ": expected \"", key,
              "\", a text; found none");
  MOXIE_CHECK(!text->empty(), kInvalidArgument, where, ": expected \"", key,
              "\" to be a text; found an empty one");
  return *text;
}

Expectation read_expectation(const json::Object& item, const std::string& where) {
  const json::Value* value = json::find(item, "expect");
  MOXIE_CHECK(value != nullptr, kInvalidArgument, where,
              ": expected \"expect\", what the answer should be; found none");
  const std::string inside = where + ": expect";
  const json::Object& object = json::as_object(*value, inside);
  refuse_other_members(object, {"final", "final_pattern", "call"}, inside);
  const auto text = json::get_string(object, "final", inside);
  const auto pattern = json::get_string(object, "final_pattern", inside);
  const json::Value* call = json::find(object, "call");
  const int count = (text ? 1 : 0) + (pattern ? 1 : 0) + (call != nullptr ? 1 : 0);
  MOXIE_CHECK(count == 1, kInvalidArgument, inside,
              ": expected one of final, final_pattern and call; found ", count, " of them");
  if (text) return {Expectation::Kind::kFinal, std::string(trimmed(*text)), ""};
  if (pattern) {
    const std::string problem = pattern_problem(*pattern);
    MOXIE_CHECK(problem.empty(), kInvalidArgument, inside,
                ": expected a regular expression (ECMAScript) as final_pattern; found ",
                json::quote(*pattern), ", which is none: ", problem);
    return {Expectation::Kind::kPattern, *pattern, ""};
  }
  const std::string in_call = inside + ": call";
  const json::Object& function = json::as_object(*call, in_call);
  refuse_other_members(function, {"name", "arguments"}, in_call);
  Message named;  // "functions.get_weather" is as good as "get_weather"
  named.recipient = required_text(function, "name", in_call);
  const json::Value* arguments = json::find(function, "arguments");
  MOXIE_CHECK(arguments != nullptr && arguments->is_object(), kInvalidArgument, in_call,
              ": expected \"arguments\", an object ({} when there are none); found ",
              arguments == nullptr ? "none" : "something else");
  return {Expectation::Kind::kCall, std::string(function_name(named)), json::dump(*arguments)};
}

// What renders: a prompt that ends where the assistant speaks.
void check_prompt(const EvalItem& item) {
  MOXIE_CHECK(!item.messages.empty(), kInvalidArgument, item.where,
              ": expected \"messages\" with at least one message; found none");
  MOXIE_CHECK(item.messages.back().role != Role::kAssistant, kInvalidArgument, item.where,
              ": expected messages that end where the assistant should speak; found one of the "
              "assistant at their end (what it should say belongs into \"reference\")");
  for (size_t i = 0; i < item.messages.size(); ++i)
    MOXIE_CHECK(item.messages[i].role != Role::kTool || !item.messages[i].name.empty(),
                kInvalidArgument, item.where, ": message ", i + 1,
                ": expected the tool's name, such as functions.get_weather; found none");
  // Schemas of tools are rendered, and rendering refuses some.
  try {
    with_settings(item.settings, item.messages);
  } catch (const Error& error) {
    throw make_error(error.code(), item.where, ": ", error.what());
  }
}

void check_reference(const EvalItem& item) {
  for (size_t i = 0; i < item.reference.size(); ++i) {
    const Message& message = item.reference[i];
    MOXIE_CHECK(message.role == Role::kAssistant, kInvalidArgument, item.where,
                ": reference: message ", i + 1,
                ": expected a message of the assistant; found one of role ", name(message.role));
    MOXIE_CHECK(part_of(message) != Part::kCall || i + 1 == item.reference.size(), kInvalidArgument,
                item.where, ": reference: message ", i + 1,
                ": expected a call to be the last message, since it ends the turn; found ",
                item.reference.size() - i - 1, " behind it");
  }
}

EvalItem parse_item(std::string_view text, const std::string& set, int64_t line) {
  EvalItem item;
  item.set = set;
  item.line = line;
  item.where = concat(set, " line ", line);
  const std::string& where = item.where;
  const json::Value value = json::parse(text, where);
  MOXIE_CHECK(value.is_object(), kInvalidArgument, where,
              ": expected an object with id, ability, messages and expect; found another value");
  const json::Object& object = value.get_object();
  refuse_other_members(object,
                       {"id", "ability", "messages", "expect", "reference", "format", "system",
                        "identity", "knowledge_cutoff", "date", "effort", "developer", "tools"},
                       where);
  const auto format = json::get_string(object, "format", where);
  MOXIE_CHECK(!format || *format == "moxie-conversation-1", kInvalidArgument, where,
              ": expected format \"moxie-conversation-1\" or none; found ", json::quote(*format));
  item.id = required_text(object, "id", where);
  item.ability = required_text(object, "ability", where);
  read_conversation(object, where, item.settings, item.messages);
  check_prompt(item);
  item.expect = read_expectation(object, where);
  if (const json::Value* reference = json::find(object, "reference"))
    item.reference = read_messages(*reference, where + ": reference");
  check_reference(item);
  return item;
}

std::vector<std::string> files_of(const std::string& word) {
  std::error_code failure;
  if (word == "-" || !std::filesystem::is_directory(word, failure)) return {word};
  std::vector<std::string> files;
  std::filesystem::directory_iterator entries(word, failure);
  MOXIE_CHECK(!failure, kIo, "cannot read the folder ", word, ": ", failure.message());
  for (const auto& entry : entries)
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path().string());
  MOXIE_CHECK(!files.empty(), kInvalidArgument, word,
              ": expected evaluation sets, files that end in .jsonl; found none in this folder");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<EvalItem> parse_eval_set(std::string_view text, const std::string& set) {
  std::vector<EvalItem> items;
  std::map<std::string, int64_t> lines;  // of each id
  int64_t line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = text.find('\n');
    const std::string_view content = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (trimmed(content).empty()) continue;
    items.push_back(parse_item(content, set, line));
    const auto [known, is_new] = lines.emplace(items.back().id, line);
    MOXIE_CHECK(is_new, kInvalidArgument, items.back().where,
                ": expected an id that no other line has; found ", json::quote(items.back().id),
                ", the id of line ", known->second);
  }
  MOXIE_CHECK(!items.empty(), kInvalidArgument, set,
              ": expected one item a line; found nothing in it");
  return items;
}

std::vector<EvalItem> read_eval_sets(const std::vector<std::string>& words, int64_t limit) {
  std::vector<EvalItem> all;
  std::set<std::string> seen;
  for (const std::string& word : words) {
    for (const std::string& file : files_of(word)) {
      MOXIE_CHECK(seen.insert(file).second, kInvalidArgument, "the set ",
                  file == "-" ? "on standard input" : file, " is named twice");
      std::vector<EvalItem> items =
          parse_eval_set(read_text(file), file == "-" ? "standard input" : file);
      if (limit > 0 && static_cast<int64_t>(items.size()) > limit)
        items.erase(items.begin() + static_cast<ptrdiff_t>(limit), items.end());
      std::move(items.begin(), items.end(), std::back_inserter(all));
    }
  }
  return all;
}

}  // namespace moxie::cli
