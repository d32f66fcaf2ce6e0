// A conversation with a model: what was said, how the model is asked, and one turn after another.
// Knows tokens and harmony, nothing of terminals.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/generation.h"
#include "model_options.h"
#include "moxie/chat.h"
#include "moxie/sampling.h"

namespace moxie::cli {

struct Settings {
  SystemContent system;
  std::string developer;  // instructions
  std::vector<FunctionTool> tools;
  SamplingParams sampling;
  int64_t max_tokens = 0;  // of one answer; 0: until the context is full
  std::vector<std::string> stops;
};

// What a piece of a turn is to the reader.
enum class Part : uint8_t {
  kReasoning,  // analysis
  kPreamble,   // commentary for the reader
  kAnswer,     // final, and text without any channel
  kCall,       // the arguments of a tool call
};

// Hears a turn while it is made. Text comes in whole UTF-8 characters.
struct TurnListener {
  std::function<void(int64_t done, int64_t total)> on_prefill;
  std::function<void(Part part, const Message& header)> on_begin;
  std::function<void(Part part, std::string_view text)> on_text;
  std::function<void(Part part)> on_end;
};

struct Turn {
  StopReason reason = StopReason::kStopToken;
  bool stopped_by_text = false;
  std::vector<Message> messages;  // in the order in which they came
  std::optional<Message> call;    // the last message, if it waits for a tool's result
  GenerationStats stats;
  int64_t mended = 0;  // irregularities of the format that the parser recovered from

  std::string text(Part part) const;  // of all messages of that kind, joined by newlines
};

Part part_of(const Message& message);
// "get_weather" of a call to "functions.get_weather".
std::string_view function_name(const Message& call);
// {"name": ..., "arguments": ...} on one line; arguments that are no JSON become a string.
std::string call_json(const Message& call);

// The messages as the model is told them: `messages` behind the system message and, where there is
// something to say, the developer message.
std::vector<Message> with_settings(const Settings& settings, const std::vector<Message>& messages);

// A list of messages as a saved conversation writes them. Error(kInvalidArgument), beginning with
// `where`.
std::vector<Message> read_messages(const json::Value& list, const std::string& where);
// The members of a saved conversation, but for "format": what is absent leaves `settings` as they
// are, but for instructions and tools, which are then none. "identity" is another name of "system".
// Error(kInvalidArgument), beginning with `where`; then nothing has changed.
void read_conversation(const json::Object& object, const std::string& where, Settings& settings,
                       std::vector<Message>& messages);

class Conversation {
 public:
  // Holds `loaded` by reference. Throws Error(kUnsupported) when the vocabulary lacks harmony's
  // control tokens.
  Conversation(LoadedModel& loaded, Settings settings);

  Settings settings;
  std::vector<Message> messages;  // without the system and developer message

  // The message that `content` is: the result of the call that waits for one, or what the user
  // says.
  void add(std::string content);
  // The call at the end of the conversation that has no result yet.
  const Message* pending_call() const;

  // Has the model speak and appends what it said. Throws Error, and then `messages` is unchanged.
  Turn speak(const TurnListener& listener);
  Session& session() { return session_; }

  // All of it as JSON text, and back (settings of sampling excepted). Error(kInvalidArgument).
  std::string to_json() const;
  void load_json(std::string_view text, std::string_view source);

 private:
  LoadedModel& loaded_;
  HarmonyRenderer renderer_;
  Session session_;
};

}  // namespace moxie::cli
