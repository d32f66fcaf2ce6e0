// Conversations in the harmony format: what a program says to a gpt-oss model and what it hears
// back.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie {

enum class Role : uint8_t { kSystem, kDeveloper, kUser, kAssistant, kTool };
const char* name(Role role);  // "system", ...
std::optional<Role> parse_role(std::string_view name);

enum class ReasoningEffort : uint8_t { kLow, kMedium, kHigh };
const char* name(ReasoningEffort effort);
std::optional<ReasoningEffort> parse_effort(std::string_view name);

// One message. Empty strings mean "not there".
struct Message {
  Role role = Role::kUser;
  std::string name;          // of a user or assistant; of a tool: "functions.get_weather"
  std::string recipient;     // "functions.get_weather"; of a tool's result "assistant"
  std::string channel;       // "analysis", "commentary", "final"
  std::string content_type;  // "<|constrain|>json", "json", "code"
  std::string content;
  friend bool operator==(const Message&, const Message&) = default;
};

struct FunctionTool {
  std::string name;
  std::string description;
  std::string parameters;  // JSON Schema as JSON text; empty: the function takes nothing
};

struct ToolNamespace {
  std::string name;
  std::string description;
  std::vector<FunctionTool> tools;
};

struct ResponseFormat {
  std::string name, description;
  std::string schema;  // JSON text
};

// What the system message says. Empty fields are left out.
struct SystemContent {
  std::string identity = "You are ChatGPT, a large language model trained by OpenAI.";
  std::string knowledge_cutoff = "2024-06";
  std::string current_date;  // "YYYY-MM-DD"
  std::optional<ReasoningEffort> effort = ReasoningEffort::kMedium;
  std::vector<std::string> channels = {"analysis", "commentary", "final"};
  bool browser = false, python = false;  // built-in tools
};

struct DeveloperContent {
  std::string instructions;
  std::vector<ToolNamespace> namespaces;  // usually one, "functions"
  std::vector<ResponseFormat> response_formats;
};

// Texts of the two messages. `has_functions`: some developer message of the conversation declares
// functions. Throws Error(kInvalidArgument) if a schema is not JSON.
std::string system_text(const SystemContent& content, bool has_functions);
std::string developer_text(const DeveloperContent& content);
// A list of {"type":"function","function":{...}} or {"name":...} entries, as the OpenAI API writes
// tools; `source` names it in errors. Error(kInvalidArgument or kUnsupported) says what is wrong.
// At most 1024 tools in 4 MiB, names of 1 to 128 letters, digits, "_" and "-".
std::vector<FunctionTool> parse_function_tools(std::string_view json_text, std::string_view source);

enum class History : uint8_t {
  kKeepAll,
  kRecommended,  // drops analysis without recipient before the last assistant `final`
  kLibrary,  // what openai-harmony does: analysis before the first final, when the last assistant
             // message is final
};

// Writes messages as tokens. Every text is encoded as ordinary text: nothing a user, a tool or a
// schema contains becomes a control token. Holds the tokenizer by reference. Throws
// Error(kUnsupported) naming the control token that the vocabulary lacks.
class HarmonyRenderer {
 public:
  explicit HarmonyRenderer(const Tokenizer& tokenizer);
  // The conversation followed by `<|start|>assistant`. A tool's message without a name is
  // Error(kInvalidArgument).
  std::vector<TokenId> prompt(const std::vector<Message>& messages,
                              History history = History::kRecommended) const;
  std::vector<TokenId> conversation(const std::vector<Message>& messages,
                                    History history = History::kKeepAll) const;
  std::vector<TokenId> message(const Message& message) const;
  // Tokens that end a turn: <|return|>, <|call|>, <|endoftext|>.
  const std::vector<TokenId>& stop_tokens() const { return stop_tokens_; }

 private:
  void append(const Message& message, std::vector<TokenId>& out) const;

  const Tokenizer& tokenizer_;
  TokenId start_, message_, channel_, constrain_, end_, call_;
  std::vector<TokenId> stop_tokens_;
};

// What the parser had to mend; how often is counted by kind.
enum class Recovery : uint8_t {
  kStopOutsideMessage,  // a terminator where a message should begin
  kMissingStart,        // text or a header without <|start|>
  kRestartedHeader,     // <|start|> inside a header
  kUnknownRole,         // neither a role nor the name of a tool: assistant
  kEmptyChannel,        // <|channel|> without a name: analysis
  kUnknownChannel,      // analysis
  kRepeatedChannel,     // several <|channel|>: the last one with a valid name wins
  kExtraHeaderText,     // parts of a header that mean nothing
  kMissingMessage,      // no <|message|> behind the header: its text is content
  kControlInName,       // recipient cut at a control token
  kGluedContentType,    // "NAMEjson"
  kMissingNamespace,    // a function called without "functions."
  kControlInContent,    // a control token where text should be
  kUnknownToken,        // an id outside the vocabulary
  kInvalidUtf8,         // a piece of content that became U+FFFD
  kCount,
};
const char* name(Recovery recovery);

enum class MessageEnd : uint8_t {
  kEnd,
  kCall,
  kReturn,
  kEndOfText,
  kCut,  // no terminator: the stream ended inside, or another message began
};

struct HarmonyEvent {
  enum class Kind : uint8_t { kStart, kText, kEnd };
  Kind kind;
  Message header;                     // kStart: everything but content
  std::string text;                   // kText: whole UTF-8 characters
  MessageEnd end = MessageEnd::kEnd;  // kEnd
};

// A total, streaming parser: any sequence of ids leads to a valid state and none raises an error.
// Gives what openai-harmony gives on well-formed input, and recovers where models are known to
// stray; src/harmony/header.h says how headers are read. Every kStart has its kEnd, and the
// messages are the fold of the events: messages() holds no more and no less than they say.
class HarmonyParser {
 public:
  struct Options {
    bool in_assistant_turn =
        true;  // the prompt ended in <|start|>assistant; otherwise a whole transcript follows
    std::vector<std::string> functions;  // names offered, without "functions."
  };
  // Throws Error(kUnsupported) naming the control token that the vocabulary lacks. Holds the
  // tokenizer by reference.
  HarmonyParser(const Tokenizer& tokenizer, Options options);
  ~HarmonyParser();
  HarmonyParser(HarmonyParser&&) noexcept;

  // Appends to `events` what the token brings about. Holds back headers, and of content nothing but
  // incomplete characters.
  void push(TokenId token, std::vector<HarmonyEvent>& events);
  // The stream ended; what is pushed after this is ignored.
  void finish(std::vector<HarmonyEvent>& events);

  // Messages completed so far; after finish() all of them.
  const std::vector<Message>& messages() const;
  const std::array<int64_t, static_cast<size_t>(Recovery::kCount)>& recoveries() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moxie
