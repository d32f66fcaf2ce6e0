#include "moxie/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "moxie/error.h"
#include "tokenizer/test_tokenizers.h"

namespace moxie {
namespace {

using Ids = std::vector<TokenId>;

class O200k : public testing::Test {
 protected:
  void SetUp() override {
    const auto path = o200k_ranks_path();
    if (!path) GTEST_SKIP() << kNoRanks;
    if (!tokenizer_) tokenizer_ = new Tokenizer(Tokenizer::from_file(*path));
  }
  static const Tokenizer& tokenizer() { return *tokenizer_; }

 private:
  inline static const Tokenizer* tokenizer_ = nullptr;  // loading takes a while; freed by the exit
};

TEST_F(O200k, EncodesThePublishedVectors) {
  const struct {
    const char* text;
    Ids ids;
  } vectors[] = {
      {"hello world", {24912, 2375}},
      {"Hello, World!", {13225, 11, 5922, 0}},
      {"  leading", {220, 8117}},
      {"trailing  ", {371, 24408, 256}},
      {"a  b", {64, 220, 287}},
      {"x\n\n  y", {87, 279, 220, 342}},
      {"line1\r\n\r\nline2", {1137, 16, 1414, 1137, 17}},
      {"I'm we'LL they've", {15390, 581, 6, 7454, 51676}},
      {"1234567", {7633, 19354, 22}},
      {"3.14159", {18, 13, 16926, 4621}},
      {"ΑΒΓ αβγ", {8427, 35144, 23628, 3793, 6331, 2728}},
      {"中文ABC", {10667, 44197}},
      {"日本語のテキスト", {9048, 40909, 3385, 16056, 18368, 38236}},
      {"한국어", {114854, 5959}},
      {"😊👋🏾", {102630, 28823, 233, 52622, 122}},
      {"na\u00efve na\u00efve", {1503, 9954, 737, 153475, 737}},
      {"foo/bar//baz", {16660, 106617, 393, 91457}},
      {"a/\n/b", {64, 66186, 65}},
      {"__init__", {771, 3287, 771}},
      {"camelCaseWord", {178067, 6187, 12929}},
      {"HTTPServer", {17893, 6444}},
      {"   \n   ", {10190, 271}},
      {"\u00a0x", {5310, 87}},
      {"\u3000字", {1397, 8134}},
      {R"({"location":"San Francisco"})", {10848, 7693, 7534, 28499, 18826, 18583}},
      {" to=functions.get_current_weather", {316, 28, 44580, 775, 23981, 170154}},
      {"<|start|>", {27, 91, 5236, 91, 29}},
      {"system", {17360}},
      {"developer", {77944}},
      {"assistant", {173781}},
      {"commentary", {12606, 815}},
      {" json", {5701}},
      {"", {}},
  };
  for (const auto& [text, ids] : vectors) {
    EXPECT_EQ(tokenizer().encode(text), ids) << text;
    EXPECT_EQ(tokenizer().decode(ids), text);
  }
  EXPECT_EQ(tokenizer().bytes(9552), " \xf0\x9f");
}

TEST_F(O200k, SpecialTokensStandAtTheirPublishedIds) {
  const struct {
    const char* name;
    TokenId id;
  } named[] = {{"<|startoftext|>", 199998},     {"<|endoftext|>", 199999},
               {"<|reserved_200000|>", 200000}, {"<|reserved_200001|>", 200001},
               {"<|return|>", 200002},          {"<|constrain|>", 200003},
               {"<|reserved_200004|>", 200004}, {"<|channel|>", 200005},
               {"<|start|>", 200006},           {"<|end|>", 200007},
               {"<|message|>", 200008},         {"<|call|>", 200012},
               {"<|reserved_200017|>", 200017}, {"<|endofprompt|>", 200018},
               {"<|reserved_200019|>", 200019}, {"<|reserved_201087|>", 201087}};
  for (const auto& [name, id] : named) {
    EXPECT_EQ(tokenizer().special(name), id) << name;
    EXPECT_EQ(tokenizer().bytes(id), name);
    EXPECT_TRUE(tokenizer().is_special(id));
    EXPECT_EQ(tokenizer().encode(name, SpecialText::kRecognize), Ids{id});
    EXPECT_NE(tokenizer().encode(name), Ids{id});
    EXPECT_EQ(tokenizer().decode(tokenizer().encode(name)), name);
  }
  EXPECT_EQ(tokenizer().vocab_size(), 201088);
  EXPECT_FALSE(tokenizer().exists(201088));
  EXPECT_FALSE(tokenizer().exists(-1));
  EXPECT_EQ(tokenizer().bytes(201088), "");
  EXPECT_FALSE(tokenizer().is_special(199997));
  EXPECT_EQ(tokenizer().special("<|reserved_200002|>"), std::nullopt);
  EXPECT_EQ(tokenizer().special("hello"), std::nullopt);
}

TEST_F(O200k, SpecialTextIsFoundBetweenOrdinaryText) {
  EXPECT_EQ(
      tokenizer().encode("<|start|>user<|message|>hello world<|end|>", SpecialText::kRecognize),
      (Ids{200006, 1428, 200008, 24912, 2375, 200007}));
  // What only looks like a name is text.
  for (const char* text : {"<|start|", "<|", "<|start |>", "<|Start|>", "<|reserved_1|>", "<"}) {
    EXPECT_EQ(tokenizer().encode(text, SpecialText::kRecognize), tokenizer().encode(text)) << text;
  }
}

TEST_F(O200k, EveryTokenIsReproducedByMergingAndDecodesToItself) {
  for (TokenId id = 0; id < 199998; ++id) {
    const std::string_view bytes = tokenizer().bytes(id);
    ASSERT_FALSE(bytes.empty()) << id;
    ASSERT_EQ(tokenizer().decode(tokenizer().encode(bytes)), bytes) << id;
  }
}

TEST_F(O200k, AMegabyteOfOneLetterGivesTheLongestTokens) {
  const std::string text(1'000'000, 'a');
  const Ids ids = tokenizer().encode(text);
  EXPECT_EQ(tokenizer().decode(ids), text);
  EXPECT_LT(ids.size(), text.size() / 4);
}

TEST_F(O200k, AnyBytesComeBack) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 300, '\0');
    for (char& c : text) c = static_cast<char>(random());
    ASSERT_EQ(tokenizer().decode(tokenizer().encode(text)), text);
    ASSERT_EQ(tokenizer().decode(tokenizer().encode(text, SpecialText::kRecognize)), text);
  }
}

TEST_F(O200k, ThreadsShareOneTokenizer) {
  std::string text;
  for (int i = 0; i < 2000; ++i)
    text += "word" + std::to_string(i * 7919) + " Größe 中文 aaaaaaaaaa\n";
  text += std::string(20000, 'z');
  const Ids expected = tokenizer().encode(text);
  std::vector<Ids> got(4);
  {
    std::vector<std::jthread> threads;
    for (Ids& ids : got) threads.emplace_back([&] { ids = tokenizer().encode(text); });
  }
  for (const Ids& ids : got) EXPECT_EQ(ids, expected);
}

// Small tokenizers, made here.

TEST(Tokenizer, AWholeFolderOrAFileOfEitherKindLoads) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "moxie_tokenizer_test";
  std::filesystem::create_directories(folder);
  const SmallTokenizer small{{"ab", "abc"}, {{"a", "b"}, {"ab", "c"}}};
  std::ofstream(folder / "tokenizer.json") << "\n " << small.json();
  EXPECT_EQ(Tokenizer::from_file(folder).encode("abc"), Ids{257});
  EXPECT_EQ(Tokenizer::from_file(folder / "tokenizer.json").encode("ab"), Ids{256});
  std::ofstream(folder / "empty") << " \n";
  EXPECT_THROW(Tokenizer::from_file(folder / "empty"), Error);
  EXPECT_THROW(Tokenizer::from_file(folder / "absent"), Error);
  std::filesystem::remove_all(folder);
}

TEST(Tokenizer, MergesGoByRankAndByTheLeftmostPlace) {
  // "bc" comes before "ab": abc -> a bc.
  const SmallTokenizer small{{"bc", "ab", "aa"}, {{"b", "c"}, {"a", "b"}, {"a", "a"}}};
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(small.json(), "small");
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{257}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{258, 'a'}));
  EXPECT_EQ(tokenizer.encode("aaab"), (Ids{258, 257})) << "ab goes before aa";
}

TEST(Tokenizer, TheOrderOfMergesRulesEvenAgainstTheOrderOfIds) {
  SmallTokenizer small{{"ab", "bc"}, {{"b", "c"}, {"a", "b"}}};
  EXPECT_EQ(Tokenizer::from_tokenizer_json(small.json(), "small").encode("abc"), (Ids{'a', 257}));
  std::swap(small.merges[0], small.merges[1]);
  EXPECT_EQ(Tokenizer::from_tokenizer_json(small.json(), "small").encode("abc"), (Ids{256, 'c'}));
}

TEST(Tokenizer, AWholePieceIsItsTokenOnlyWithIgnoreMerges) {
  // "abc" is a token that no merge reaches.
  const SmallTokenizer small{{"ab", "abc"}, {{"a", "b"}}};
  boost::json::object document = small.document();
  EXPECT_EQ(Tokenizer::from_tokenizer_json(serialize(document), "small").encode("abc"), Ids{257});
  document["model"].as_object()["ignore_merges"] = false;
  EXPECT_EQ(Tokenizer::from_tokenizer_json(serialize(document), "small").encode("abc"),
            (Ids{256, 'c'}));
}

TEST(Tokenizer, MergesMayBeSpelledAsStrings) {
  const SmallTokenizer small{{" a", "a ", "\xc3\xa4"}, {{" ", "a"}, {"a", " "}, {"\xc3", "\xa4"}}};
  boost::json::object document = small.document();
  const Tokenizer as_arrays = Tokenizer::from_tokenizer_json(serialize(document), "small");
  boost::json::array strings;
  for (const auto& [left, right] : small.merges)
    strings.emplace_back(spell(left) + " " + spell(right));
  document["model"].as_object()["merges"] = strings;
  const Tokenizer as_strings = Tokenizer::from_tokenizer_json(serialize(document), "small");
  for (const char* text : {" a a a", "a  a", "\xc3\xa4", "x\xc3\xa4 a"}) {
    EXPECT_EQ(as_strings.encode(text), as_arrays.encode(text)) << text;
  }
  EXPECT_EQ(as_strings.encode("\xc3\xa4"), Ids{258});
}

TEST(Tokenizer, TheLongestNameWinsWhereOneIsTheStartOfAnother) {
  boost::json::object document = SmallTokenizer{}.document();
  document["added_tokens"] =
      boost::json::array{SmallTokenizer::added(300, "<a"), SmallTokenizer::added(301, "<a>"),
                         SmallTokenizer::added(302, "<a><b"), SmallTokenizer::added(303, "b>")};
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(serialize(document), "small");
  const auto encode = [&](const char* text) {
    return tokenizer.encode(text, SpecialText::kRecognize);
  };
  EXPECT_EQ(encode("<a"), Ids{300});
  EXPECT_EQ(encode("<a>"), Ids{301});
  EXPECT_EQ(encode("<a><"), (Ids{301, '<'}));
  EXPECT_EQ(encode("<a><b>"), (Ids{302, '>'}));
  EXPECT_EQ(encode("<b>"), (Ids{'<', 303}));
  EXPECT_EQ(encode("<<a"), (Ids{'<', 300}));
  EXPECT_EQ(tokenizer.encode("<a>"), (Ids{'<', 'a', '>'}));
  EXPECT_EQ(tokenizer.vocab_size(), 304);
  EXPECT_FALSE(tokenizer.exists(299)) << "ids may have gaps";
}

TEST(Tokenizer, AppendKeepsWhatIsThere) {
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(SmallTokenizer{}.json(), "small");
  Ids ids{7};
  tokenizer.append_encoded("a", SpecialText::kOrdinary, ids);
  tokenizer.append_encoded("", SpecialText::kOrdinary, ids);
  tokenizer.append_encoded("<|end|>", SpecialText::kRecognize, ids);
  EXPECT_EQ(ids, (Ids{7, 'a', 257}));
}

// The heap of long pieces against the plain rule, on pieces around the length where one takes over.
TEST(Tokenizer, LongPiecesMergeAsShortOnesDo) {
  std::mt19937 random(3);
  SmallTokenizer small;
  std::vector<std::string> known{"a", "b", "c"};
  for (int i = 0; i < 60; ++i) {
    const std::string left = known[random() % known.size()];
    const std::string right = known[random() % known.size()];
    if (left.size() + right.size() > 40 || std::ranges::count(known, left + right) > 0) continue;
    known.push_back(left + right);
    small.tokens.push_back(left + right);
    small.merges.emplace_back(left, right);
  }
  ASSERT_GT(small.merges.size(), 30u);
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(small.json(), "small");
  const auto by_the_rule = [&](const std::string& text) {
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    for (;;) {
      size_t best = small.merges.size(), place = 0;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        for (size_t m = 0; m < best; ++m) {
          if (small.merges[m].first == parts[i] && small.merges[m].second == parts[i + 1]) {
            best = m;
            place = i;
            break;
          }
        }
      }
      if (best == small.merges.size()) break;
      parts[place] += parts[place + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
    Ids ids;
    for (const std::string& part : parts) {
      const auto token = std::ranges::find(small.tokens, part);
      ids.push_back(part.size() == 1 ? part[0]
                                     : static_cast<TokenId>(256 + (token - small.tokens.begin())));
    }
    return ids;
  };
  for (const size_t size : {1, 2, 3, 10, 62, 63, 64, 65, 66, 94, 95, 96, 97, 98, 200, 1000}) {
    for (int round = 0; round < 20; ++round) {
      std::string text;
      const int letters = round % 2 == 0 ? 3 : 1 + static_cast<int>(random() % 2);
      for (size_t i = 0; i < size; ++i)
        text += static_cast<char>('a' + static_cast<int>(random()) % letters);
      for (char& c : text) c = c < 'a' ? 'a' : c;
      if (size <= 40 && std::ranges::count(small.tokens, text) > 0) continue;  // a whole piece
      ASSERT_EQ(tokenizer.encode(text), by_the_rule(text)) << text;
    }
  }
}

}  // namespace
}  // namespace moxie
