// What a tokenizer file may not contain. The tests "HostileRow10..." are row 10 of the project's
// list of hostile inputs: merges to unknown tokens, duplicate ids, ids past the vocabulary, a 64 MB
// token.
#include <gtest/gtest.h>

#include "base/memory.h"
#include "moxie/error.h"
#include "moxie/tokenizer.h"
#include "tokenizer/test_tokenizers.h"
#include "tokenizer/vocabulary.h"

namespace moxie {
namespace {

namespace bj = boost::json;

struct Refusal {
  ErrorCode code{};
  std::string sentence = "accepted";
};

Refusal refusal_of(const std::string& json) {
  try {
    Tokenizer::from_tokenizer_json(json, "t.json");
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

void expect_refused(const std::string& json, ErrorCode code, const std::vector<std::string>& says) {
  const Refusal refusal = refusal_of(json);
  EXPECT_EQ(refusal.code, code) << refusal.sentence;
  EXPECT_EQ(refusal.sentence.find("t.json"), 0u) << refusal.sentence;
  for (const std::string& part : says) {
    EXPECT_NE(refusal.sentence.find(part), std::string::npos)
        << part << " in: " << refusal.sentence;
  }
  EXPECT_LT(refusal.sentence.size(), 600u);
}
void expect_refused(const bj::object& document, ErrorCode code,
                    const std::vector<std::string>& says) {
  expect_refused(bj::serialize(document), code, says);
}

const SmallTokenizer kSmall{{"ab", "abc"}, {{"a", "b"}, {"ab", "c"}}};

bj::object& model_of(bj::object& document) { return document["model"].as_object(); }

TEST(HostileRow10, MergesToUnknownTokensAreRefused) {
  for (const bj::array& merge : {bj::array{"a", "zz"}, bj::array{"zz", "a"}, bj::array{"b", "a"}}) {
    bj::object document = kSmall.document();
    model_of(document)["merges"].as_array().push_back(merge);
    expect_refused(document, ErrorCode::kInvalidArgument,
                   {"merge 2", "which the vocabulary lacks"});
  }
  bj::object document = kSmall.document();
  model_of(document)["merges"].as_array().push_back(bj::array{"a", " "});
  expect_refused(document, ErrorCode::kInvalidArgument, {"merge 2", "stands for no byte"});
  // A special token is no part of ordinary text, so no merge may make one.
  document = kSmall.document();
  model_of(document)["vocab"].as_object()["<|end|>"] = 259;
  model_of(document)["merges"].as_array().push_back(bj::array{"<", "|"});
  expect_refused(document, ErrorCode::kInvalidArgument, {"merge 2", "\"<|\""});
}

TEST(HostileRow10, DuplicateIdsAndTokensAndMergesAreRefused) {
  bj::object document = kSmall.document();
  model_of(document)["vocab"].as_object()["abc"] = 256;
  expect_refused(document, ErrorCode::kInvalidArgument, {"\"ab\"", "\"abc\"", "id 256"});

  document = kSmall.document();
  document["added_tokens"].as_array().push_back(SmallTokenizer::added(257, "<|new|>"));
  expect_refused(document, ErrorCode::kInvalidArgument, {"257", "\"abc\"", "<|new|>"});

  document = kSmall.document();
  document["added_tokens"].as_array().push_back(SmallTokenizer::added(258, "<|new|>"));
  expect_refused(document, ErrorCode::kInvalidArgument, {"258", "<|start|>", "<|new|>"});

  document = kSmall.document();
  document["added_tokens"].as_array().push_back(SmallTokenizer::added(300, "<|start|>"));
  expect_refused(document, ErrorCode::kInvalidArgument, {"<|start|>", "second time"});

  document = kSmall.document();
  document["added_tokens"].as_array().push_back(SmallTokenizer::added(300, "ab"));
  expect_refused(document, ErrorCode::kInvalidArgument, {"\"ab\"", "256", "300"});

  document = kSmall.document();
  model_of(document)["merges"].as_array().push_back(bj::array{"a", "b"});
  expect_refused(document, ErrorCode::kInvalidArgument, {"merge 2", "second time"});

  std::string twice = kSmall.json();
  twice.replace(twice.find("\"abc\":257"), 9, "\"abc\":257,\"ab\":290");
  expect_refused(twice, ErrorCode::kInvalidArgument, {"\"ab\"", "second time"});
}

TEST(HostileRow10, IdsPastAnyVocabularyAreRefused) {
  for (const char* id : {"-1", "2097151", "4294967296", "9223372036854775807"}) {
    std::string json = kSmall.json();
    json.replace(json.find("\"abc\":257"), 9, std::string("\"abc\":") + id);
    expect_refused(json, ErrorCode::kInvalidArgument, {"\"abc\"", id, "expected 0 to"});

    json = kSmall.json();
    json.replace(json.find("\"id\":258"), 8, std::string("\"id\":") + id);
    expect_refused(json, ErrorCode::kInvalidArgument, {"<|start|>", id, "expected 0 to"});
  }
  for (const char* id :
       {"1.5", "1e3", "\"7\"", "null", "true", "[1]", "{}", "18446744073709551615"}) {
    std::string json = kSmall.json();
    json.replace(json.find("\"abc\":257"), 9, std::string("\"abc\":") + id);
    expect_refused(json, ErrorCode::kInvalidArgument, {"model.vocab"});
  }
  // The largest that is allowed costs a table of 16 MiB and no more.
  std::string json = kSmall.json();
  json.replace(json.find("\"abc\":257"), 9, "\"abc\":" + std::to_string(bpe::kMaxTokenId));
  EXPECT_EQ(Tokenizer::from_tokenizer_json(json, "t.json").encode("abc"),
            std::vector<TokenId>{bpe::kMaxTokenId});
}

TEST(HostileRow10, A64MegabyteTokenIsRefusedWithinBoundedMemory) {
  const std::string huge(size_t{64} << 20, 'a');
  const size_t before = resident_memory().peak_bytes;
  std::string json = kSmall.json();
  json.insert(json.find("\"abc\":257"), "\"" + huge + "\":300,");
  expect_refused(json, ErrorCode::kInvalidArgument, {"67108864 bytes", "expected at most"});
  json = kSmall.json();
  json.insert(json.find("\"merges\":[") + 10, "[\"" + huge + "\",\"a\"],");
  expect_refused(json, ErrorCode::kInvalidArgument, {"67108864 bytes", "expected at most"});
  json = kSmall.json();
  json.replace(json.find("<|start|>"), 9, huge);
  expect_refused(json, ErrorCode::kInvalidArgument, {"67108864 bytes", "expected 1 to"});
  // Three times the file: the text made here, the inserted copy, and one in the reader.
  EXPECT_LT(resident_memory().peak_bytes - before, size_t{400} << 20);

  EXPECT_THROW(Tokenizer::from_tiktoken(huge + " 0\n", "ranks"), Error);
}

TEST(HostileRow10, ManyValuesWhereFewBelongAreRefusedEarly) {
  std::string list = "[";
  for (int i = 0; i < 1'500'000; ++i) list += "0,";
  list += "0]";
  std::string json = kSmall.json();
  json.insert(1, "\"extra\":" + list + ",");
  expect_refused(json, ErrorCode::kInvalidArgument, {"values"});
}

TEST(TokenizerJson, EverySingleByteMustBeAToken) {
  bj::object document = kSmall.document();
  model_of(document)["vocab"].as_object().erase("A");
  expect_refused(document, ErrorCode::kInvalidArgument, {"single byte", "65"});
}

TEST(TokenizerJson, WhatWouldChangeTheTokensIsRefusedByName) {
  const auto refused = [](const char* key, const bj::value& value,
                          const std::vector<std::string>& says) {
    bj::object document = kSmall.document();
    document[key] = value;
    expect_refused(document, ErrorCode::kUnsupported, says);
  };
  refused("normalizer", bj::object{{"type", "NFC"}}, {"normalizer", "NFC"});
  refused("pre_tokenizer", nullptr, {"pre_tokenizer"});
  refused("pre_tokenizer", bj::object{{"type", "Metaspace"}}, {"Metaspace"});
  refused("pre_tokenizer", bj::object{{"type", "ByteLevel"}}, {"add_prefix_space"});
  refused("decoder", bj::object{{"type", "WordPiece"}}, {"decoder", "WordPiece"});
  refused("post_processor", bj::object{{"type", "TemplateProcessing"}}, {"TemplateProcessing"});

  const auto model_refused = [](const char* key, const bj::value& value) {
    bj::object document = kSmall.document();
    model_of(document)[key] = value;
    expect_refused(document, ErrorCode::kUnsupported, {key});
  };
  model_refused("type", "Unigram");
  model_refused("dropout", 0.1);
  model_refused("continuing_subword_prefix", "##");
  model_refused("end_of_word_suffix", "</w>");

  for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
    bj::object document = kSmall.document();
    document["added_tokens"].as_array()[0].as_object()[flag] = true;
    expect_refused(document, ErrorCode::kUnsupported, {"<|start|>", flag});
  }

  bj::object document = kSmall.document();
  bj::array& steps = document["pre_tokenizer"].as_object()["pretokenizers"].as_array();
  steps[0].as_object()["pattern"].as_object()["Regex"] = "\\w+";
  expect_refused(document, ErrorCode::kUnsupported, {"another pattern", "w+"});
  steps[0].as_object()["pattern"] = bj::object{{"String", " "}};
  expect_refused(document, ErrorCode::kUnsupported, {"another pattern"});
  steps.erase(steps.begin());
  EXPECT_EQ(refusal_of(bj::serialize(document)).sentence, "accepted") << "ByteLevel alone";
  steps[0].as_object()["use_regex"] = true;
  const Tokenizer gpt2 = Tokenizer::from_tokenizer_json(bj::serialize(document), "t.json");
  EXPECT_EQ(gpt2.encode("abc"), std::vector<TokenId>{257});
}

TEST(TokenizerJson, RemovedAndInvertedIsTheSameAsIsolated) {
  bj::object document = kSmall.document();
  bj::object& split =
      document["pre_tokenizer"].as_object()["pretokenizers"].as_array()[0].as_object();
  split["behavior"] = "Removed";
  expect_refused(document, ErrorCode::kUnsupported, {"Removed"});
  split["invert"] = true;
  EXPECT_EQ(refusal_of(bj::serialize(document)).sentence, "accepted");
}

TEST(TokenizerJson, AShapeThatIsNotTheFormatsIsRefused) {
  const auto with_merges = [](const bj::value& merges) {
    bj::object document = kSmall.document();
    model_of(document)["merges"] = merges;
    return document;
  };
  // Parsed, as compilers differ over an array in the braces of an array.
  for (const char* merge :
       {R"("ab")", R"("a b c")", R"(" b")", R"("a ")", R"("")", R"(["a"])", R"(["a","b","c"])",
        R"([])", R"(["a",7])", R"([["a","b"]])", "7", "null", R"({"a":"b"})"}) {
    expect_refused(with_merges(bj::parse("[" + std::string(merge) + "]")),
                   ErrorCode::kInvalidArgument, {"merge"});
  }
  expect_refused(with_merges(bj::object{}), ErrorCode::kInvalidArgument, {"array"});
  expect_refused(with_merges(nullptr), ErrorCode::kInvalidArgument, {"merges"});

  bj::object document = kSmall.document();
  model_of(document)["vocab"] = bj::array{"a", "b"};
  expect_refused(document, ErrorCode::kInvalidArgument, {"model.vocab"});
  model_of(document)["vocab"] = bj::array{1, 2};
  expect_refused(document, ErrorCode::kInvalidArgument, {"model.vocab"});
  model_of(document)["vocab"] = bj::array{};
  expect_refused(document, ErrorCode::kInvalidArgument, {"vocab"});
  document.erase("model");
  expect_refused(document, ErrorCode::kInvalidArgument, {"model"});
  expect_refused("[]", ErrorCode::kInvalidArgument, {"object"});
  expect_refused("{", ErrorCode::kInvalidArgument, {"JSON"});

  document = kSmall.document();
  model_of(document)["vocab"].as_object()["\u4e2d"] = 300;
  expect_refused(document, ErrorCode::kInvalidArgument, {"\u4e2d", "300", "no byte"});
  document = kSmall.document();
  document["added_tokens"].as_array().push_back(bj::object{{"id", 300}});
  expect_refused(document, ErrorCode::kInvalidArgument, {"added_tokens", "content"});
  document["added_tokens"].as_array().back() = SmallTokenizer::added(300, "");
  expect_refused(document, ErrorCode::kInvalidArgument, {"added_tokens", "0 bytes"});
}

TEST(TokenizerJson, ASpecialTokenInTheVocabularyTooIsStillNoOrdinaryText) {
  bj::object document = SmallTokenizer{}.document();
  model_of(document)["vocab"].as_object()["<|end|>"] = 257;  // as GPT-2's file has it
  model_of(document)["vocab"].as_object()["a"] = 97;
  boost::json::array& added = document["added_tokens"].as_array();
  added.push_back(SmallTokenizer::added(300, "word"));
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(bj::serialize(document), "t.json");
  EXPECT_EQ(tokenizer.encode("word").size(), 4u);
  EXPECT_EQ(tokenizer.encode("word", SpecialText::kRecognize), std::vector<TokenId>{300});
  EXPECT_EQ(tokenizer.bytes(257), "<|end|>");
  EXPECT_EQ(tokenizer.encode("<|end|>").size(), 7u);
}

// Rank files.

std::string byte_ranks() {
  std::string text;
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int byte = 0; byte < 256; ++byte) {
    text += kDigits[byte >> 2];
    text += kDigits[(byte & 3) << 4];
    text += "== " + std::to_string(byte) + "\n";
  }
  return text;
}

TEST(Tiktoken, RanksMergeAndNamedTokensStandBehindThem) {
  // "ab" 256, "bc" 257, "abc" 258: ab goes first.
  const Tokenizer tokenizer =
      Tokenizer::from_tiktoken(byte_ranks() + "YWI= 256\r\nYmM= 257\n\nYWJj 258", "ranks");
  EXPECT_EQ(tokenizer.encode("abc"), std::vector<TokenId>{258});
  EXPECT_EQ(tokenizer.encode("abcbc"), (std::vector<TokenId>{258, 257}));
  EXPECT_EQ(tokenizer.special("<|startoftext|>"), 259);
  EXPECT_EQ(tokenizer.special("<|endofprompt|>"), 268);
  EXPECT_EQ(tokenizer.special("<|reserved_200000|>"), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 269);
}

TEST(Tiktoken, RefusesWhatIsNoRankFileNamingTheLine) {
  const struct {
    const char* lines;
    const char* says;
  } cases[] = {
      {"YWI= 256\nYWI= 257\n", "line 258"},
      {"YWI= 255\n", "line 257"},
      {"YWI= -1\n", "line 257"},
      {"YWI= 99999999\n", "line 257"},
      {"YWI= 99999999999999999999\n", "line 257"},
      {"YWI=\n", "line 257"},
      {"YWI 256\n", "line 257"},
      {"Y!I= 256\n", "line 257"},
      {"YWI= 256 7\n", "line 257"},
      {" 256\n", "line 257"},
      {"Y=I= 256\n", "line 257"},
      {"YWI= \n", "line 257"},
      {"hello\n", "line 257"},
  };
  for (const auto& [lines, says] : cases) {
    try {
      Tokenizer::from_tiktoken(byte_ranks() + lines, "ranks");
      ADD_FAILURE() << "accepted " << lines;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(std::string("ranks: ") + says), std::string::npos)
          << error.what();
    }
  }
  EXPECT_THROW(Tokenizer::from_tiktoken("", "ranks"), Error);
  EXPECT_THROW(Tokenizer::from_tiktoken("YQ== 0\n", "ranks"), Error) << "255 bytes are missing";
}

}  // namespace
}  // namespace moxie
