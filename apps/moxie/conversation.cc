#include "conversation.h"

#include <algorithm>
#include <boost/json.hpp>
#include <numeric>

#include "base/check.h"
#include "base/json.h"
#include "stop_text.h"

namespace moxie::cli {
namespace {

// Passes a turn's tokens through the parser to the listener, and ends the answer at a stop text.
class TurnReader {
 public:
  TurnReader(const Tokenizer& tokenizer, const Settings& settings, const TurnListener& listener)
      : parser_(tokenizer, parser_options(settings)), stops_(settings.stops), listener_(listener) {}

  // False when the turn shall end here.
  bool push(TokenId token) {
    parser_.push(token, events_);
    handle_events();
    return !stopped_;
  }

  void finish(Turn& turn) {
    if (!stopped_) {
      parser_.finish(events_);
      handle_events();
    }
    if (open_) end_message();
    turn.stopped_by_text = stopped_;
    turn.messages = std::move(messages_);
    const auto& recoveries = parser_.recoveries();
    turn.mended = std::accumulate(recoveries.begin(), recoveries.end(), int64_t{0});
  }

 private:
  static HarmonyParser::Options parser_options(const Settings& settings) {
    HarmonyParser::Options options;
    for (const FunctionTool& tool : settings.tools) options.functions.push_back(tool.name);
    return options;
  }

  void handle_events() {
    for (const HarmonyEvent& event : events_) {
      if (stopped_) break;
      switch (event.kind) {
        case HarmonyEvent::Kind::kStart:
          if (open_) end_message();
          open_ = true;
          current_ = event.header;
          part_ = part_of(current_);
          filter_ = StopText(part_ == Part::kAnswer ? stops_ : std::vector<std::string>{});
          if (listener_.on_begin) listener_.on_begin(part_, current_);
          break;
        case HarmonyEvent::Kind::kText:
          emit(filter_.push(event.text));
          stopped_ = filter_.stopped();
          break;
        case HarmonyEvent::Kind::kEnd:
          if (open_) end_message();
          break;
      }
    }
    events_.clear();
  }

  void emit(const std::string& text) {
    if (text.empty()) return;
    current_.content += text;
    if (listener_.on_text) listener_.on_text(part_, text);
  }

  void end_message() {
    emit(filter_.finish());
    open_ = false;
    if (listener_.on_end) listener_.on_end(part_);
    if (!current_.content.empty() || !current_.recipient.empty())
      messages_.push_back(std::move(current_));
    current_ = {};
  }

  HarmonyParser parser_;
  std::vector<std::string> stops_;
  const TurnListener& listener_;
  std::vector<HarmonyEvent> events_;
  std::vector<Message> messages_;
  Message current_;
  Part part_ = Part::kAnswer;
  StopText filter_{{}};
  bool open_ = false, stopped_ = false;
};

bool waits_for_result(const Message& message) {
  return message.role == Role::kAssistant && !message.recipient.empty() &&
         message.recipient != "all";
}

Message read_message(const json::Value& value, const std::string& where) {
  const json::Object& object = json::as_object(value, where);
  const auto text = [&](const char* key) {
    return json::get_string(object, key, where).value_or("");
  };
  const std::string role = text("role");
  const std::optional<Role> parsed = parse_role(role);
  MOXIE_CHECK(parsed.has_value(), kInvalidArgument, where, ": role must be system, developer, ",
              "user, assistant or tool, found \"", role, "\"");
  Message message;
  message.role = *parsed;
  message.name = text("name");
  message.recipient = text("recipient");
  message.channel = text("channel");
  message.content_type = text("content_type");
  message.content = text("content");
  return message;
}

}  // namespace

Part part_of(const Message& message) {
  if (!message.recipient.empty() && message.recipient != "all") return Part::kCall;
  if (message.channel == "analysis") return Part::kReasoning;
  if (message.channel == "commentary") return Part::kPreamble;
  return Part::kAnswer;
}

std::string_view function_name(const Message& call) {
  constexpr std::string_view kPrefix = "functions.";
  std::string_view name = call.recipient;
  if (name.substr(0, kPrefix.size()) == kPrefix) name.remove_prefix(kPrefix.size());
  return name;
}

std::string call_json(const Message& call) {
  std::string arguments = call.content;
  try {
    json::parse(arguments, "arguments");
    std::erase(arguments, '\n');
  } catch (const Error&) {
    arguments = json::quote(call.content);
  }
  return concat("{\"name\": ", json::quote(function_name(call)), ", \"arguments\": ", arguments,
                "}");
}

std::string Turn::text(Part part) const {
  std::string all;
  for (const Message& message : messages) {
    if (part_of(message) != part) continue;
    if (!all.empty()) all += '\n';
    all += message.content;
  }
  return all;
}

std::vector<Message> with_settings(const Settings& settings, const std::vector<Message>& messages) {
  std::vector<Message> all;
  all.push_back(
      {.role = Role::kSystem, .content = system_text(settings.system, !settings.tools.empty())});
  if (!settings.developer.empty() || !settings.tools.empty()) {
    DeveloperContent content;
    content.instructions = settings.developer;
    if (!settings.tools.empty()) content.namespaces.push_back({"functions", "", settings.tools});
    all.push_back({.role = Role::kDeveloper, .content = developer_text(content)});
  }
  all.insert(all.end(), messages.begin(), messages.end());
  return all;
}

std::vector<Message> read_messages(const json::Value& list, const std::string& where) {
  const json::Array& array = json::as_array(list, where);
  std::vector<Message> messages;
  for (size_t i = 0; i < array.size(); ++i)
    messages.push_back(read_message(array[i], concat(where, ": message ", i + 1)));
  return messages;
}

void read_conversation(const json::Object& object, const std::string& where, Settings& settings,
                       std::vector<Message>& messages) {
  // Everything is read before anything is changed.
  Settings read = settings;
  const auto string = [&](const char* key) { return json::get_string(object, key, where); };
  const auto system = string("system"), identity = string("identity");
  MOXIE_CHECK(!system || !identity, kInvalidArgument, where,
              ": \"system\" and \"identity\" are two names of one thing; give one of them");
  if (system || identity) read.system.identity = system ? *system : *identity;
  if (const auto cutoff = string("knowledge_cutoff")) read.system.knowledge_cutoff = *cutoff;
  if (const auto date = string("date")) read.system.current_date = *date;
  if (const auto effort = string("effort")) {
    read.system.effort = parse_effort(*effort);
    MOXIE_CHECK(read.system.effort.has_value() || *effort == "none", kInvalidArgument, where,
                ": effort must be low, medium, high or none, found \"", *effort, "\"");
  }
  read.developer = string("developer").value_or("");
  read.tools.clear();
  if (const json::Value* tools = json::find(object, "tools"))
    read.tools = parse_function_tools(json::dump(*tools), where);
  std::vector<Message> read_list;
  if (const json::Value* list = json::find(object, "messages"))
    read_list = read_messages(*list, concat(where, ": messages"));
  settings = std::move(read);
  messages = std::move(read_list);
}

// Reasoning is left out of the next turn's prompt, so the cache goes back to where the answer
// began: over as many tokens as most answers think and write.
constexpr int64_t kRewind = 8192;

Conversation::Conversation(LoadedModel& loaded, Settings settings_)
    : settings(std::move(settings_)),
      loaded_(loaded),
      renderer_(loaded.tokenizer),
      session_(*loaded.model, loaded.context, kRewind) {}

const Message* Conversation::pending_call() const {
  return !messages.empty() && waits_for_result(messages.back()) ? &messages.back() : nullptr;
}

void Conversation::add(std::string content) {
  Message message;
  if (const Message* call = pending_call()) {
    message.role = Role::kTool;
    message.name = call->recipient;
    message.recipient = "assistant";
    message.channel = call->channel.empty() ? "commentary" : call->channel;
  }
  message.content = std::move(content);
  messages.push_back(std::move(message));
}

Turn Conversation::speak(const TurnListener& listener) {
  const std::vector<TokenId> prompt =
      renderer_.prompt(with_settings(settings, messages), History::kRecommended);
  GenerationOptions options;
  options.sampling = settings.sampling;
  options.max_tokens = settings.max_tokens;
  options.stop_tokens = renderer_.stop_tokens();
  options.sample_below = loaded_.tokenizer.vocab_size();

  TurnReader reader(loaded_.tokenizer, settings, listener);
  Turn turn;
  turn.reason = session_.generate(
      prompt, options, [&](int32_t token) { return reader.push(token); }, listener.on_prefill);
  reader.finish(turn);
  turn.stats = session_.stats();
  if (turn.stopped_by_text) turn.reason = StopReason::kStopToken;
  // A call that was cut short has no arguments that a tool could be given.
  const bool calls = !turn.messages.empty() && waits_for_result(turn.messages.back());
  if (calls && turn.reason != StopReason::kStopToken)
    turn.messages.pop_back();
  else if (calls)
    turn.call = turn.messages.back();
  messages.insert(messages.end(), turn.messages.begin(), turn.messages.end());
  return turn;
}

std::string Conversation::to_json() const {
  std::string text =
      concat("{\n  \"format\": \"moxie-conversation-1\",\n  \"system\": ",
             json::quote(settings.system.identity),
             ",\n  \"knowledge_cutoff\": ", json::quote(settings.system.knowledge_cutoff),
             ",\n  \"date\": ", json::quote(settings.system.current_date), ",\n  \"effort\": ",
             json::quote(settings.system.effort ? name(*settings.system.effort) : "none"),
             ",\n  \"developer\": ", json::quote(settings.developer), ",\n  \"tools\": [");
  for (size_t i = 0; i < settings.tools.size(); ++i) {
    const FunctionTool& tool = settings.tools[i];
    text += concat(i == 0 ? "\n" : ",\n", "    {\"name\": ", json::quote(tool.name),
                   ", \"description\": ", json::quote(tool.description));
    if (!tool.parameters.empty()) text += concat(", \"parameters\": ", tool.parameters);
    text += "}";
  }
  text += "],\n  \"messages\": [";
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    text += concat(i == 0 ? "\n" : ",\n", "    {\"role\": ", json::quote(name(message.role)));
    const auto member = [&](const char* key, const std::string& value) {
      if (!value.empty()) text += concat(", \"", key, "\": ", json::quote(value));
    };
    member("name", message.name);
    member("recipient", message.recipient);
    member("channel", message.channel);
    member("content_type", message.content_type);
    text += concat(", \"content\": ", json::quote(message.content), "}");
  }
  return text + "\n  ]\n}\n";
}

void Conversation::load_json(std::string_view text, std::string_view source) {
  const std::string where(source);
  const json::Value value = json::parse(text, source);
  const json::Object& object = json::as_object(value, where);
  MOXIE_CHECK(json::get_string(object, "format", where).value_or("") == "moxie-conversation-1",
              kInvalidArgument, where, " is not a conversation that /save has written: it lacks ",
              "\"format\": \"moxie-conversation-1\"");
  read_conversation(object, where, settings, messages);
}

}  // namespace moxie::cli
