// Bytes as tokens of a small vocabulary: whatever comes, the events nest, fold to the messages, and
// hold UTF-8; splitting the pushes differently changes nothing; what was parsed renders and parses
// again.
#include <cstdio>
#include <cstdlib>

#include "harmony/test_conversation.h"
#include "harmony/test_tokenizer.h"

namespace {

using namespace moxie;
using namespace moxie::harmony;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "parser_fuzz: %s\n", what);
  std::abort();
}

bool is_utf8(const std::string& text) {
  Utf8Stream stream;
  const std::string again = stream.push(text) + stream.finish();
  return again == text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer tokenizer = make_test_tokenizer();
  if (size == 0) return 0;
  // The first byte chooses the options; a byte from 0x80 on is a word or a control token, two to
  // spare are ids that do not exist.
  const int32_t first_word = 256;
  const int32_t num_words = tokenizer.vocab_size() - first_word + 2;
  std::vector<TokenId> ids;
  for (size_t i = 1; i < size; ++i)
    ids.push_back(data[i] < 0x80 ? data[i] : first_word + (data[i] - 0x80) % num_words);
  HarmonyParser::Options options;
  options.in_assistant_turn = (data[0] & 1) != 0;
  if ((data[0] & 2) != 0) options.functions = {"get", "get_weather"};

  HarmonyParser parser(tokenizer, options);
  Fold fold;
  std::vector<HarmonyEvent> events;
  for (const TokenId id : ids) {
    events.clear();
    parser.push(id, events);
    for (const HarmonyEvent& event : events) {
      require(is_utf8(event.text), "an event's text is not UTF-8");
      fold.add(event);
    }
    require(parser.messages().size() + (fold.open ? 1 : 0) == fold.messages.size(),
            "a message is missing or too early");
  }
  events.clear();
  parser.finish(events);
  for (const HarmonyEvent& event : events) fold.add(event);
  require(fold.nested && !fold.open, "events do not nest");
  require(fold.messages == parser.messages(), "the fold of the events is not the messages");
  for (const Message& message : fold.messages) {
    for (const std::string* text : {&message.name, &message.recipient, &message.channel,
                                    &message.content_type, &message.content})
      require(is_utf8(*text), "a message's text is not UTF-8");
    require(message.channel.empty() || message.channel == "analysis" ||
                message.channel == "commentary" || message.channel == "final",
            "an unknown channel came through");
  }
  const size_t num_messages = parser.messages().size();
  events.clear();
  for (const TokenId id : ids) parser.push(id, events);
  parser.finish(events);
  require(events.empty() && parser.messages().size() == num_messages, "events after the end");

  const Parsed again = parse_all(
      tokenizer, HarmonyRenderer(tokenizer).conversation(fold.messages, History::kKeepAll),
      {.in_assistant_turn = false, .functions = options.functions});
  require(again.messages.size() == fold.messages.size(), "rendered again, another count");
  for (size_t i = 0; i < again.messages.size(); ++i)
    require(again.messages[i].content == fold.messages[i].content,
            "rendered again, another content");
  return 0;
}
