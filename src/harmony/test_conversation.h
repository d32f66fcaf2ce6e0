// Conversations and what came of them as JSON, for golden files and for the comparison with
// openai-harmony (tests/harmony_driver.cc).
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "moxie/chat.h"

namespace moxie::harmony {

inline std::string text_of(const json::Object& object, const char* key) {
  return json::get_string(object, key, "conversation").value_or("");
}

inline FunctionTool read_tool(const json::Object& object) {
  FunctionTool tool{text_of(object, "name"), text_of(object, "description"), ""};
  if (const json::Value* parameters = json::find(object, "parameters"))
    tool.parameters = json::dump(*parameters);
  return tool;
}

inline SystemContent read_system(const json::Object& object) {
  SystemContent content;
  content.identity = text_of(object, "identity");
  content.knowledge_cutoff = text_of(object, "knowledge_cutoff");
  content.current_date = text_of(object, "current_date");
  content.effort = parse_effort(text_of(object, "effort"));
  content.channels.clear();
  if (const json::Value* channels = json::find(object, "channels"))
    for (const json::Value& channel : channels->as_array())
      content.channels.emplace_back(channel.as_string());
  content.browser = json::get_bool(object, "browser", "system").value_or(false);
  content.python = json::get_bool(object, "python", "system").value_or(false);
  return content;
}

inline DeveloperContent read_developer(const json::Object& object) {
  DeveloperContent content;
  content.instructions = text_of(object, "instructions");
  if (const json::Value* spaces = json::find(object, "namespaces"))
    for (const json::Value& value : spaces->as_array()) {
      const json::Object& entry = value.as_object();
      ToolNamespace space{text_of(entry, "name"), text_of(entry, "description"), {}};
      if (const json::Value* tools = json::find(entry, "tools"))
        for (const json::Value& tool : tools->as_array())
          space.tools.push_back(read_tool(tool.as_object()));
      content.namespaces.push_back(std::move(space));
    }
  if (const json::Value* formats = json::find(object, "response_formats"))
    for (const json::Value& value : formats->as_array()) {
      const json::Object& entry = value.as_object();
      content.response_formats.push_back(
          {text_of(entry, "name"), text_of(entry, "description"), json::dump(entry.at("schema"))});
    }
  return content;
}

// A message has "content", or "system" or "developer" as structures.
inline std::vector<Message> read_messages(const json::Array& values) {
  bool has_functions = false;
  for (const json::Value& value : values)
    if (const json::Value* developer = json::find(value.as_object(), "developer"))
      for (const ToolNamespace& space : read_developer(developer->as_object()).namespaces)
        has_functions |= space.name == "functions" && !space.tools.empty();
  std::vector<Message> messages;
  for (const json::Value& value : values) {
    const json::Object& object = value.as_object();
    const auto role = parse_role(text_of(object, "role"));
    MOXIE_CHECK(role.has_value(), kInvalidArgument, "unknown role in ", json::dump(value));
    Message message{*role,
                    text_of(object, "name"),
                    text_of(object, "recipient"),
                    text_of(object, "channel"),
                    text_of(object, "content_type"),
                    text_of(object, "content")};
    if (const json::Value* system = json::find(object, "system"))
      message.content = system_text(read_system(system->as_object()), has_functions);
    if (const json::Value* developer = json::find(object, "developer"))
      message.content = developer_text(read_developer(developer->as_object()));
    messages.push_back(std::move(message));
  }
  return messages;
}

inline json::Object message_json(const Message& message) {
  json::Object object{{"role", name(message.role)}};
  if (!message.name.empty()) object["name"] = message.name;
  if (!message.recipient.empty()) object["recipient"] = message.recipient;
  if (!message.channel.empty()) object["channel"] = message.channel;
  if (!message.content_type.empty()) object["content_type"] = message.content_type;
  object["content"] = message.content;
  return object;
}

inline History read_history(const std::string& text) {
  if (text == "keep_all") return History::kKeepAll;
  if (text == "recommended") return History::kRecommended;
  MOXIE_CHECK(text == "library", kInvalidArgument, "unknown history rule \"", text, "\"");
  return History::kLibrary;
}

inline std::vector<TokenId> read_ids(const json::Value& value) {
  std::vector<TokenId> ids;
  for (const json::Value& id : value.as_array()) ids.push_back(id.to_number<TokenId>());
  return ids;
}

// What the events say, read on their own: the messages they spell and whether they nest.
struct Fold {
  std::vector<Message> messages;
  std::vector<MessageEnd> ends;
  bool open = false;
  bool nested = true;  // every start has its end, and text stands between the two

  void add(const HarmonyEvent& event) {
    using Kind = HarmonyEvent::Kind;
    nested &= open != (event.kind == Kind::kStart);
    if (event.kind == Kind::kStart) {
      nested &= event.header.content.empty();
      messages.push_back(event.header);
    } else if (!messages.empty()) {
      messages.back().content += event.text;
    }
    open = event.kind != Kind::kEnd;
    if (event.kind == Kind::kEnd) ends.push_back(event.end);
  }
};

struct Parsed {
  Fold fold;
  std::vector<Message> messages;
  std::array<int64_t, static_cast<size_t>(Recovery::kCount)> recoveries;
  int64_t count(Recovery recovery) const { return recoveries[static_cast<size_t>(recovery)]; }
  int64_t mended() const {
    int64_t sum = 0;
    for (const int64_t n : recoveries) sum += n;
    return sum;
  }
};

inline Parsed parse_all(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                        HarmonyParser::Options options) {
  HarmonyParser parser(tokenizer, std::move(options));
  std::vector<HarmonyEvent> events;
  for (const TokenId id : ids) parser.push(id, events);
  parser.finish(events);
  Parsed parsed;
  for (const HarmonyEvent& event : events) parsed.fold.add(event);
  parsed.messages = parser.messages();
  parsed.recoveries = parser.recoveries();
  return parsed;
}

}  // namespace moxie::harmony
