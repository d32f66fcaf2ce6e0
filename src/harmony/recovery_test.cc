// What models really write instead of well-formed harmony, one test for each known way to stray.
#include <gtest/gtest.h>

#include "harmony/test_conversation.h"
#include "harmony/test_tokenizer.h"

namespace moxie::harmony {
namespace {

const Tokenizer& vocabulary() {
  static const Tokenizer tokenizer = make_test_tokenizer();
  return tokenizer;
}

Parsed parse(std::string_view text, bool in_turn = true) {
  Parsed parsed = parse_all(vocabulary(), tokens_of(vocabulary(), text),
                            {.in_assistant_turn = in_turn, .functions = {"get_weather", "f"}});
  EXPECT_TRUE(parsed.fold.nested && !parsed.fold.open) << text;
  EXPECT_EQ(parsed.fold.messages, parsed.messages) << text;
  return parsed;
}

// Holds the stream to one mended fault, of this kind.
void expect_only(const Parsed& parsed, Recovery recovery) {
  EXPECT_EQ(parsed.mended(), parsed.count(recovery));
  EXPECT_EQ(parsed.count(recovery), 1) << name(recovery);
}

Message said(const char* channel, const char* content) {
  return {.role = Role::kAssistant, .channel = channel, .content = content};
}
Message called(const char* recipient, const char* channel, const char* content) {
  return {.role = Role::kAssistant, .recipient = recipient, .channel = channel, .content = content};
}
using Messages = std::vector<Message>;

TEST(HarmonyRecovery, GenerationRunsPastCallIntoAChannelName) {
  const Parsed parsed = parse(
      "<|channel|>commentary to=functions.f<|message|>{}<|call|>commentary<|message|>Hello<|end|>");
  EXPECT_EQ(parsed.messages,
            (Messages{called("functions.f", "commentary", "{}"), said("commentary", "Hello")}));
  expect_only(parsed, Recovery::kMissingStart);
}

TEST(HarmonyRecovery, TerminatorWhereAMessageShouldBegin) {
  for (const char* terminator : {"<|return|>", "<|call|>", "<|end|>", "<|endoftext|>"}) {
    const Parsed parsed = parse(std::string("<|channel|>final<|message|>x<|end|>") + terminator);
    EXPECT_EQ(parsed.messages, Messages{said("final", "x")});
    expect_only(parsed, Recovery::kStopOutsideMessage);
  }
  expect_only(parse("<|return|>"), Recovery::kStopOutsideMessage);
}

TEST(HarmonyRecovery, TextAfterEndWithoutStart) {
  const Parsed parsed = parse("<|channel|>final<|message|>Hello<|end|>.\n world");
  EXPECT_EQ(parsed.messages, (Messages{said("final", "Hello"), said("final", ".\n world")}));
  expect_only(parsed, Recovery::kMissingStart);
}

TEST(HarmonyRecovery, WhiteSpaceAfterEnd) {
  const Parsed parsed = parse(
      "<|channel|>analysis<|message|>a<|end|>\n\n <|start|>assistant<|channel|>final<|message|>b");
  EXPECT_EQ(parsed.messages, (Messages{said("analysis", "a"), said("final", "b")}));
  expect_only(parsed, Recovery::kMissingStart);
}

TEST(HarmonyRecovery, HeaderAfterEndWithoutStart) {
  for (const char* header :
       {"<|channel|>final", "assistant<|channel|>final", "\nassistant<|channel|>final", "final"}) {
    const Parsed parsed =
        parse(std::string("<|channel|>analysis<|message|>a<|end|>") + header + "<|message|>b");
    EXPECT_EQ(parsed.messages, (Messages{said("analysis", "a"), said("final", "b")})) << header;
    expect_only(parsed, Recovery::kMissingStart);
  }
  const Parsed call = parse(
      "<|channel|>analysis<|message|>a<|end|>to=functions.f<|channel|>commentary<|message|>{}");
  EXPECT_EQ(call.messages,
            (Messages{said("analysis", "a"), called("functions.f", "commentary", "{}")}));
}

TEST(HarmonyRecovery, WordsThatOnlyBeginLikeAHeaderAreText) {
  for (const char* text : {"tools are", "finally", "toast", "t", "to", "users", "final answer is 4",
                           "user wants to know"}) {
    const Parsed parsed =
        parse(std::string("<|channel|>final<|message|>a<|end|>") + text + "<|end|>");
    ASSERT_EQ(parsed.messages.size(), 2u) << text;
    EXPECT_EQ(parsed.messages[1].content, text);
    EXPECT_EQ(parsed.messages[1].role, Role::kAssistant);
  }
}

TEST(HarmonyRecovery, DuplicatedStart) {
  const Parsed parsed =
      parse("<|start|>assistant<|start|>assistant<|channel|>final<|message|>x", false);
  EXPECT_EQ(parsed.messages, Messages{said("final", "x")});
  expect_only(parsed, Recovery::kRestartedHeader);
  // The prompt ended in <|start|>assistant, and the model writes it again.
  const Parsed again = parse("<|start|>assistant<|channel|>final<|message|>x");
  EXPECT_EQ(again.messages, Messages{said("final", "x")});
  expect_only(again, Recovery::kRestartedHeader);
}

TEST(HarmonyRecovery, DuplicatedRole) {
  for (const char* header : {"<|start|>assistantassistant", "<|start|>assistant assistant"}) {
    const Parsed parsed = parse(std::string(header) + "<|channel|>final<|message|>x", false);
    ASSERT_EQ(parsed.messages.size(), 1u) << header;
    EXPECT_EQ(parsed.messages[0].channel, "final");
    EXPECT_EQ(parsed.messages[0].recipient, "");
    EXPECT_EQ(parsed.messages[0].role, Role::kAssistant);
  }
}

TEST(HarmonyRecovery, ChannelFollowedByNothing) {
  const Parsed parsed = parse("<|channel|><|message|>x");
  EXPECT_EQ(parsed.messages, Messages{said("analysis", "x")});
  expect_only(parsed, Recovery::kEmptyChannel);
}

TEST(HarmonyRecovery, ChannelThatIsNone) {
  for (const char* channel : {"??", "commentary?", "comment", "thought"}) {
    const Parsed parsed = parse(std::string("<|channel|>") + channel + "<|message|>x");
    EXPECT_EQ(parsed.messages, Messages{said("analysis", "x")}) << channel;
    expect_only(parsed, Recovery::kUnknownChannel);
  }
}

TEST(HarmonyRecovery, ChannelFollowedByFreeText) {
  for (const char* text : {"We need to", "We need", "let.us think"}) {
    const Parsed parsed = parse(std::string("<|channel|>") + text + "<|message|>x");
    ASSERT_EQ(parsed.messages.size(), 1u);
    EXPECT_EQ(parsed.messages[0].channel, "analysis");
    EXPECT_EQ(parsed.messages[0].recipient, "") << text;
    EXPECT_EQ(parsed.count(Recovery::kUnknownChannel), 1);
    EXPECT_EQ(parsed.count(Recovery::kExtraHeaderText), 1);
  }
}

TEST(HarmonyRecovery, DoubledChannel) {
  for (const char* header : {"<|channel|>analysis<|channel|>final", "<|channel|><|channel|>final",
                             "<|channel|>?!<|channel|>final"}) {
    const Parsed parsed = parse(std::string(header) + "<|message|>x");
    EXPECT_EQ(parsed.messages, Messages{said("final", "x")}) << header;
    expect_only(parsed, Recovery::kRepeatedChannel);
  }
}

TEST(HarmonyRecovery, StrayHeaderBeforeTheRealOne) {
  EXPECT_EQ(parse("<|channel|>commentary<|channel|>analysis<|message|>x").messages,
            Messages{said("analysis", "x")});
  const Parsed parsed = parse("<|channel|>commentary to=assistant<|channel|>analysis<|message|>x");
  EXPECT_EQ(parsed.messages, Messages{said("analysis", "x")});
  EXPECT_EQ(parsed.count(Recovery::kRepeatedChannel), 1);
  EXPECT_EQ(parsed.count(Recovery::kExtraHeaderText), 1);
  EXPECT_EQ(parse("<|channel|>commentary to=assistant<|channel|>commentary to=functions.f"
                  "<|message|>{}")
                .messages,
            Messages{called("functions.f", "commentary", "{}")});
}

TEST(HarmonyRecovery, UnexpectedPartsOfAHeader) {
  for (const char* header : {"<|channel|>commentary -- commentary to=functions.f",
                             "<|channel|>commentary to=functions.f to=functions.web-browsing",
                             " to=functions.f<|channel|>commentary to=functions.f",
                             "<|channel|>commentary to=functions.f what is this"}) {
    const Parsed parsed = parse(std::string(header) + "<|message|>{}<|call|>");
    EXPECT_EQ(parsed.messages, Messages{called("functions.f", "commentary", "{}")}) << header;
    expect_only(parsed, Recovery::kExtraHeaderText);
  }
}

TEST(HarmonyRecovery, MissingMessageToken) {
  const Parsed parsed = parse(
      "I must refuse<|end|><|start|>assistant<|channel|>analysis We  must\nrefuse<|end|>"
      "<|start|>assistant<|channel|>final<|message|>Sorry<|return|>");
  EXPECT_EQ(parsed.messages,
            (Messages{said("", "I must refuse"), said("analysis", "We  must\nrefuse"),
                      said("final", "Sorry")}));
  EXPECT_EQ(parsed.count(Recovery::kMissingMessage), 2);
  EXPECT_EQ(parsed.mended(), 2);
}

TEST(HarmonyRecovery, MissingMessageTokenIsNeverACall) {
  const Parsed parsed = parse("<|channel|>commentary to=functions.f {\"a\":1}<|call|>");
  EXPECT_EQ(parsed.messages, Messages{said("commentary", "to=functions.f {\"a\":1}")});
  expect_only(parsed, Recovery::kMissingMessage);
}

TEST(HarmonyRecovery, ControlTokensInsideAToolName) {
  // Here the second channel both cuts the name and replaces the first.
  EXPECT_EQ(parse("<|channel|>commentary to=functions.f<|channel|>analysis<|message|>{}").messages,
            Messages{called("functions.f", "analysis", "{}")});
  const Parsed parsed = parse("<|channel|>commentary to=functions.f<|endofprompt|>x<|message|>{}");
  EXPECT_EQ(parsed.messages, Messages{called("functions.f", "commentary", "{}")});
  expect_only(parsed, Recovery::kControlInName);
  // Spelled in ordinary tokens.
  std::vector<TokenId> ids = tokens_of(vocabulary(), "<|channel|>commentary to=functions.f");
  for (const TokenId id : vocabulary().encode("<|channel|>analysis")) ids.push_back(id);
  for (const TokenId id : tokens_of(vocabulary(), "<|message|>{}")) ids.push_back(id);
  const Parsed spelled = parse_all(vocabulary(), ids, {});
  EXPECT_EQ(spelled.messages, Messages{called("functions.f", "commentary", "{}")});
  expect_only(spelled, Recovery::kControlInName);
}

TEST(HarmonyRecovery, GluedJson) {
  const Parsed parsed = parse("<|channel|>commentary to=functions.get_weatherjson<|message|>{}");
  ASSERT_EQ(parsed.messages.size(), 1u);
  EXPECT_EQ(parsed.messages[0].recipient, "functions.get_weather");
  EXPECT_EQ(parsed.messages[0].content_type, "json");
  expect_only(parsed, Recovery::kGluedContentType);
  // Not a known name without its tail: left alone.
  EXPECT_EQ(parse("<|channel|>commentary to=functions.tojson<|message|>").messages[0].recipient,
            "functions.tojson");
}

TEST(HarmonyRecovery, FunctionWithoutItsNamespace) {
  const Parsed parsed = parse("<|channel|>commentary to=get_weather<|message|>{}");
  EXPECT_EQ(parsed.messages, Messages{called("functions.get_weather", "commentary", "{}")});
  expect_only(parsed, Recovery::kMissingNamespace);
  EXPECT_EQ(parse("<|channel|>commentary to=unknown<|message|>").messages[0].recipient, "unknown");
}

TEST(HarmonyRecovery, FunctionWithoutTo) {
  EXPECT_EQ(parse("<|channel|>commentary functions.f<|message|>{}").messages,
            Messages{called("functions.f", "commentary", "{}")});
  EXPECT_EQ(parse("<|channel|>commentary f json<|message|>{}").messages[0].recipient,
            "functions.f");
}

TEST(HarmonyRecovery, CallOnAnotherChannel) {
  EXPECT_EQ(parse("<|channel|>analysis to=functions.f<|message|>{}").messages,
            Messages{called("functions.f", "analysis", "{}")});
  EXPECT_EQ(parse("<|channel|>comment to=functions.f<|message|>{}").messages,
            Messages{called("functions.f", "analysis", "{}")});
  EXPECT_EQ(parse(" to=functions.f<|message|>{}").messages,
            Messages{called("functions.f", "", "{}")});
}

TEST(HarmonyRecovery, CallEndedByReturnOrEnd) {
  for (const char* end : {"<|return|>", "<|end|>", "<|endoftext|>", ""}) {
    const Parsed parsed =
        parse(std::string("<|channel|>commentary to=functions.f<|message|>{}") + end);
    EXPECT_EQ(parsed.messages, Messages{called("functions.f", "commentary", "{}")});
    EXPECT_EQ(parsed.mended(), 0);
  }
}

TEST(HarmonyRecovery, TruncatedArguments) {
  const Parsed parsed = parse("<|channel|>commentary to=functions.f<|message|>{\"a\": \"\xf0\x9f");
  EXPECT_EQ(parsed.messages,
            Messages{called("functions.f", "commentary", "{\"a\": \"\xef\xbf\xbd")});
  EXPECT_EQ(parsed.fold.ends, std::vector<MessageEnd>{MessageEnd::kCut});
}

TEST(HarmonyRecovery, AnswerWithoutAnyMarkup) {
  const Parsed parsed = parse("{\"items\": [1, 2]}<|return|>");
  EXPECT_EQ(parsed.messages, Messages{said("", "{\"items\": [1, 2]}")});
  expect_only(parsed, Recovery::kMissingMessage);
  EXPECT_EQ(parse("The answer was cut").messages, Messages{said("", "The answer was cut")});
}

TEST(HarmonyRecovery, AnswerWithoutAnyMarkupStreamsOnceItIsTooLongForAHeader) {
  HarmonyParser parser(vocabulary(), {});
  std::vector<HarmonyEvent> events;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "word ";
  for (const TokenId id : tokens_of(vocabulary(), text)) parser.push(id, events);
  Fold fold;
  for (const HarmonyEvent& event : events) fold.add(event);
  EXPECT_TRUE(fold.open);
  ASSERT_EQ(fold.messages.size(), 1u);
  EXPECT_EQ(fold.messages[0].content, text);
}

TEST(HarmonyRecovery, BuiltInToolThatWasNotOffered) {
  EXPECT_EQ(parse("<|channel|>analysis to=browser.search code<|message|>{}").messages[0].recipient,
            "browser.search");
  EXPECT_EQ(parse("<|channel|>analysis to=python<|message|>1").messages,
            Messages{called("python", "analysis", "1")});
}

TEST(HarmonyRecovery, UnknownRole) {
  const Parsed parsed = parse("<|start|>assist<|channel|>final<|message|>x", false);
  EXPECT_EQ(parsed.messages, Messages{said("final", "x")});
  expect_only(parsed, Recovery::kUnknownRole);
  expect_only(parse("<|start|><|channel|>final<|message|>x", false), Recovery::kUnknownRole);
}

TEST(HarmonyRecovery, MessageBeginsInsideAnother) {
  const Messages both{said("analysis", "thinking"), said("final", "answer")};
  for (const char* between :
       {"<|start|>assistant<|channel|>final<|message|>", "<|channel|>final<|message|>"}) {
    const Parsed parsed =
        parse(std::string("<|channel|>analysis<|message|>thinking") + between + "answer");
    EXPECT_EQ(parsed.messages, both);
    expect_only(parsed, Recovery::kControlInContent);
    EXPECT_EQ(parsed.fold.ends[0], MessageEnd::kCut);
  }
}

TEST(HarmonyRecovery, OtherControlTokensInsideContentAreSpelledOut) {
  const Parsed parsed = parse("<|channel|>final<|message|>a<|constrain|>b<|message|>c");
  EXPECT_EQ(parsed.messages, Messages{said("final", "a<|constrain|>b<|message|>c")});
  EXPECT_EQ(parsed.count(Recovery::kControlInContent), 2);
}

TEST(HarmonyRecovery, IdsOutsideTheVocabulary) {
  std::vector<TokenId> ids = {-1, vocabulary().vocab_size()};
  for (const TokenId id : tokens_of(vocabulary(), "<|channel|>final<|message|>a\xf0\x9f"))
    ids.push_back(id);
  ids.push_back(1 << 30);
  const Parsed parsed = parse_all(vocabulary(), ids, {});
  EXPECT_EQ(parsed.messages, Messages{said("final", "a\xef\xbf\xbd\xef\xbf\xbd")});
  EXPECT_EQ(parsed.count(Recovery::kUnknownToken), 3);
}

}  // namespace
}  // namespace moxie::harmony
