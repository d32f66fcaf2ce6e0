#include <string>

#include "base/check.h"
#include "harmony/control_tokens.h"
#include "moxie/chat.h"

namespace moxie {
namespace {

constexpr std::string_view kConstrain = "<|constrain|>";

void append_text(const Tokenizer& tokenizer, std::string_view text, std::vector<TokenId>& out) {
  tokenizer.append_encoded(text, SpecialText::kOrdinary, out);
}

// How many messages at the front may lose their analysis.
size_t droppable(const std::vector<Message>& messages, History history) {
  const auto is_final = [](const Message& message) { return message.channel == "final"; };
  switch (history) {
    case History::kKeepAll:
      return 0;
    case History::kRecommended:
      for (size_t i = messages.size(); i-- > 0;)
        if (messages[i].role == Role::kAssistant && is_final(messages[i])) return i;
      return 0;
    case History::kLibrary: {
      bool last_is_final = false;
      for (const Message& message : messages)
        if (message.role == Role::kAssistant) last_is_final = is_final(message);
      if (!last_is_final) return 0;
      size_t first = 0;
      while (!is_final(messages[first])) ++first;
      return first;
    }
  }
  return 0;
}

bool is_dropped(const Message& message, History history) {
  if (message.channel != "analysis") return false;
  return history == History::kLibrary || message.recipient.empty();
}

}  // namespace

HarmonyRenderer::HarmonyRenderer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const harmony::ControlTokens tokens(tokenizer);
  start_ = tokens.start;
  message_ = tokens.message;
  channel_ = tokens.channel;
  constrain_ = tokens.constrain;
  end_ = tokens.end;
  call_ = tokens.call;
  stop_tokens_ = {tokens.ret, tokens.call};
  if (tokens.end_of_text != harmony::kNoToken) stop_tokens_.push_back(tokens.end_of_text);
}

void HarmonyRenderer::append(const Message& message, std::vector<TokenId>& out) const {
  out.push_back(start_);
  if (message.role == Role::kTool) {
    MOXIE_CHECK(!message.name.empty(), kInvalidArgument,
                "a tool's message needs the tool's name, such as functions.get_weather");
    append_text(tokenizer_, message.name, out);
  } else {
    append_text(tokenizer_, name(message.role), out);
    if (!message.name.empty()) append_text(tokenizer_, ":" + message.name, out);
  }
  if (!message.recipient.empty() && message.recipient != "all")
    append_text(tokenizer_, " to=" + message.recipient, out);
  if (!message.channel.empty()) {
    out.push_back(channel_);
    append_text(tokenizer_, message.channel, out);
  }
  if (message.content_type.starts_with(kConstrain)) {
    append_text(tokenizer_, " ", out);
    out.push_back(constrain_);
    append_text(tokenizer_, std::string_view(message.content_type).substr(kConstrain.size()), out);
  } else if (!message.content_type.empty()) {
    append_text(tokenizer_, " " + message.content_type, out);
  }
  out.push_back(message_);
  append_text(tokenizer_, message.content, out);
  const bool is_call = message.role == Role::kAssistant && !message.recipient.empty();
  out.push_back(is_call ? call_ : end_);
}

std::vector<TokenId> HarmonyRenderer::message(const Message& message) const {
  std::vector<TokenId> out;
  append(message, out);
  return out;
}

std::vector<TokenId> HarmonyRenderer::conversation(const std::vector<Message>& messages,
                                                   History history) const {
  std::vector<TokenId> out;
  const size_t num_droppable = droppable(messages, history);
  for (size_t i = 0; i < messages.size(); ++i)
    if (i >= num_droppable || !is_dropped(messages[i], history)) append(messages[i], out);
  return out;
}

std::vector<TokenId> HarmonyRenderer::prompt(const std::vector<Message>& messages,
                                             History history) const {
  std::vector<TokenId> out = conversation(messages, history);
  out.push_back(start_);
  append_text(tokenizer_, name(Role::kAssistant), out);
  return out;
}

}  // namespace moxie
