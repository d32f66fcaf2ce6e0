// Every file of tests/golden/harmony: conversations as ids, ids as messages. The ids are o200k's.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "harmony/test_conversation.h"
#include "tokenizer/test_tokenizers.h"

namespace moxie::harmony {
namespace {

struct Golden {
  std::string name;
  json::Object content;
};

std::vector<Golden> goldens() {
  std::vector<Golden> all;
  for (const auto& entry :
       std::filesystem::directory_iterator(MOXIE_SOURCE_DIR "/tests/golden/harmony")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    all.push_back({entry.path().stem(), json::parse(text, entry.path().string()).as_object()});
  }
  return all;
}

// nullptr where the ranks are not.
const Tokenizer* o200k() {
  static const std::optional<Tokenizer> tokenizer = [] {
    const auto path = o200k_ranks_path();
    return path ? std::optional(Tokenizer::from_file(*path)) : std::nullopt;
  }();
  return tokenizer ? &*tokenizer : nullptr;
}

TEST(HarmonyGolden, ThereAreConversationsAndStreams) {
  const std::vector<Golden> all = goldens();
  const auto has = [&](const char* key) {
    return std::count_if(all.begin(), all.end(),
                         [&](const Golden& golden) { return golden.content.contains(key); });
  };
  EXPECT_GE(has("conversation"), 15);
  EXPECT_GE(has("parsed"), 11);
}

TEST(HarmonyGolden, ConversationsRenderToTheirIds) {
  if (o200k() == nullptr) GTEST_SKIP() << kNoRanks;
  const HarmonyRenderer renderer(*o200k());
  for (const Golden& golden : goldens()) {
    if (!golden.content.contains("conversation")) continue;
    SCOPED_TRACE(golden.name);
    const std::vector<TokenId> ids =
        renderer.prompt(read_messages(golden.content.at("conversation").as_array()),
                        read_history(text_of(golden.content, "history")));
    EXPECT_EQ(ids, read_ids(golden.content.at("ids")));
    EXPECT_EQ(o200k()->decode(ids), text_of(golden.content, "text"));
  }
}

TEST(HarmonyGolden, StreamsParseToTheirMessages) {
  if (o200k() == nullptr) GTEST_SKIP() << kNoRanks;
  for (const Golden& golden : goldens()) {
    if (!golden.content.contains("parsed")) continue;
    SCOPED_TRACE(golden.name);
    const Parsed parsed = parse_all(
        *o200k(), read_ids(golden.content.at("ids")),
        {.in_assistant_turn = golden.content.at("in_assistant_turn").as_bool(), .functions = {}});
    json::Array messages;
    for (const Message& message : parsed.messages) messages.push_back(message_json(message));
    EXPECT_EQ(json::Value(messages), golden.content.at("parsed"));
    EXPECT_EQ(parsed.mended(), 0);
  }
}

// A rendered conversation read back is the conversation, less the reasoning that history drops.
TEST(HarmonyGolden, ConversationsReadBackAsTheyWere) {
  if (o200k() == nullptr) GTEST_SKIP() << kNoRanks;
  const HarmonyRenderer renderer(*o200k());
  for (const Golden& golden : goldens()) {
    if (!golden.content.contains("conversation")) continue;
    SCOPED_TRACE(golden.name);
    const std::vector<Message> messages =
        read_messages(golden.content.at("conversation").as_array());
    const Parsed parsed = parse_all(*o200k(), renderer.conversation(messages),
                                    {.in_assistant_turn = false, .functions = {}});
    EXPECT_EQ(parsed.messages, messages);
    EXPECT_EQ(parsed.mended(), 0);
  }
}

// Row 32 of the hostile inputs: every truncation and every single-token edit of the golden texts.
TEST(HarmonyGolden, EveryTruncationAndEveryEditFolds) {
  if (o200k() == nullptr) GTEST_SKIP() << kNoRanks;
  const HarmonyRenderer renderer(*o200k());
  std::vector<TokenId> inserted = {0, 220, 9552, 12606, 173781, 200013, 201087, 201088, -1};
  for (const char* control : {"<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>",
                              "<|call|>", "<|return|>", "<|endoftext|>"})
    inserted.push_back(*o200k()->special(control));
  const auto check = [&](const std::vector<TokenId>& ids, bool in_turn) {
    const Parsed parsed = parse_all(
        *o200k(), ids, {.in_assistant_turn = in_turn, .functions = {"get_current_weather"}});
    return parsed.fold.nested && !parsed.fold.open && parsed.fold.messages == parsed.messages;
  };
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.name);
    const bool in_turn =
        golden.content.contains("parsed") && golden.content.at("in_assistant_turn").as_bool();
    const std::vector<TokenId> ids = read_ids(golden.content.at("ids"));
    if (ids.size() > 200) continue;  // the long ones add time and no header that others lack
    for (size_t i = 0; i <= ids.size(); ++i) {
      ASSERT_TRUE(check({ids.begin(), ids.begin() + static_cast<ptrdiff_t>(i)}, in_turn)) << i;
      for (const TokenId token : inserted) {
        std::vector<TokenId> edited = ids;
        edited.insert(edited.begin() + static_cast<ptrdiff_t>(i), token);
        ASSERT_TRUE(check(edited, in_turn)) << token << " inserted at " << i;
        if (i == ids.size()) continue;
        edited.erase(edited.begin() + static_cast<ptrdiff_t>(i) + 1);
        ASSERT_TRUE(check(edited, in_turn)) << token << " instead of " << i;
      }
      if (i == ids.size()) continue;
      std::vector<TokenId> shorter = ids;
      shorter.erase(shorter.begin() + static_cast<ptrdiff_t>(i));
      ASSERT_TRUE(check(shorter, in_turn)) << "without " << i;
    }
  }
}

}  // namespace
}  // namespace moxie::harmony
