#include "tokenizer/splitter.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <random>
#include <string>
#include <vector>

#include "tokenizer/char_class.h"
#include "tokenizer/test_tokenizers.h"

namespace moxie::bpe {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(std::string_view text, Split kind = Split::kO200k) {
  Pieces pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(kind, text, begin);
    if (end <= begin || end > text.size()) {
      ADD_FAILURE() << "piece " << begin << " .. " << end << " of " << text.size();
      return pieces;
    }
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

TEST(Splitter, Words) {
  EXPECT_EQ(split("hello world"), (Pieces{"hello", " world"}));
  EXPECT_EQ(split("camelCaseWord"), (Pieces{"camel", "Case", "Word"}));
  EXPECT_EQ(split("HTTPServer"), (Pieces{"HTTPServer"}));
  EXPECT_EQ(split("HTTP SERVER"), (Pieces{"HTTP", " SERVER"}));
  EXPECT_EQ(split("aB"), (Pieces{"a", "B"}));
  EXPECT_EQ(split("(word)_x"), (Pieces{"(word", ")_", "x"}));
  EXPECT_EQ(split("中文ABC"), (Pieces{"中文", "ABC"}))
      << "steps back to the last letter without case";
  EXPECT_EQ(split("中文ABCd"), (Pieces{"中文ABCd"}));
  EXPECT_EQ(split("ABC中"), (Pieces{"ABC中"}));
  EXPECT_EQ(split("\u01c5x\u01c5"), (Pieces{"\u01c5x", "\u01c5"})) << "title case begins a word";
}

TEST(Splitter, Contractions) {
  EXPECT_EQ(split("I'm we'LL they've"), (Pieces{"I'm", " we'LL", " they've"}));
  EXPECT_EQ(split("'s'S't'RE'd"), (Pieces{"'s'S", "'t'RE", "'d"}));
  EXPECT_EQ(split("it'\u017f"), (Pieces{"it'\u017f"})) << "the long s is an s";
  EXPECT_EQ(split("it'"), (Pieces{"it", "'"}));
  EXPECT_EQ(split("it'l"), (Pieces{"it", "'l"}));
  EXPECT_EQ(split("it'lo"), (Pieces{"it", "'lo"}));
  EXPECT_EQ(split("x'sy"), (Pieces{"x's", "y"}));
  EXPECT_EQ(split("1's"), (Pieces{"1", "'s"}));
}

TEST(Splitter, Numbers) {
  EXPECT_EQ(split("1234567"), (Pieces{"123", "456", "7"}));
  EXPECT_EQ(split(" 12"), (Pieces{" ", "12"}));
  EXPECT_EQ(split("\u0661\u0662\u00bd\u2167"), (Pieces{"\u0661\u0662\u00bd", "\u2167"}));
}

TEST(Splitter, Symbols) {
  EXPECT_EQ(split("a/\n/b"), (Pieces{"a", "/\n/", "b"}));
  EXPECT_EQ(split(" !?\r\n//x"), (Pieces{" !?\r\n//", "x"}));
  EXPECT_EQ(split("  !"), (Pieces{" ", " !"}));
  EXPECT_EQ(split("\t!"), (Pieces{"\t", "!"}));
  EXPECT_EQ(split("foo/bar//baz"), (Pieces{"foo", "/bar", "//", "baz"}));
  EXPECT_EQ(split("😊👋🏾 "), (Pieces{"😊👋🏾", " "}));
}

TEST(Splitter, WhiteSpace) {
  EXPECT_EQ(split("a  b"), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(split("  leading"), (Pieces{" ", " leading"}));
  EXPECT_EQ(split("trailing  "), (Pieces{"trailing", "  "}));
  EXPECT_EQ(split("x\n\n  y"), (Pieces{"x", "\n\n", " ", " y"}));
  EXPECT_EQ(split("   \n   "), (Pieces{"   \n", "   "}));
  EXPECT_EQ(split(" \n \r x"), (Pieces{" \n \r", " x"}));
  EXPECT_EQ(split("\u00a0x"), (Pieces{"\u00a0x"}));
  EXPECT_EQ(split("\u3000\u3000\u5b57"), (Pieces{"\u3000", "\u3000\u5b57"}));
  EXPECT_EQ(split("  1"), (Pieces{" ", " ", "1"}));
  EXPECT_EQ(split("\u200b\ufeff"), (Pieces{"\u200b\ufeff"})) << "neither is white space";
}

TEST(Splitter, Marks) {
  EXPECT_EQ(split("e\u0301a"), (Pieces{"e\u0301a"}));
  EXPECT_EQ(split("E\u0301A"), (Pieces{"E\u0301", "A"}));
  EXPECT_EQ(split("\u0301ABC"), (Pieces{"\u0301", "ABC"})) << "a mark alone is a lower-case run";
  EXPECT_EQ(split("\u0301abc"), (Pieces{"\u0301abc"}));
  EXPECT_EQ(split("!\u0301"), (Pieces{"!\u0301"}));
  EXPECT_EQ(split("1\u0301's"), (Pieces{"1", "\u0301's"}));
}

TEST(Splitter, AnInvalidByteIsASymbolOfItsOwn) {
  EXPECT_EQ(split("a\xff\xfe!b"), (Pieces{"a", "\xff\xfe!", "b"}));
  EXPECT_EQ(split("\xffword"), (Pieces{"\xffword"}));
  EXPECT_EQ(split("\xff\xffword"), (Pieces{"\xff\xff", "word"}));
  EXPECT_EQ(split("\xed\xa0\x80"), (Pieces{"\xed\xa0\x80"}));
  EXPECT_EQ(split("\xe4\xb8"), (Pieces{"\xe4\xb8"})) << "a cut character";
  EXPECT_EQ(split("\xe4\xb8 a"), (Pieces{"\xe4\xb8", " a"}));
}

// The rule in the header: as if U+FFFD stood in place of each byte that is not UTF-8.
TEST(Splitter, InvalidTextIsCutAsItsRepairedSelf) {
  std::mt19937 random(5);
  const std::string alphabet[] = {
      "a",    "B",    "1",    " ",        "\n",           "/",   "'", "s", "\u0301", "中",
      "\xff", "\xe4", "\xb8", "\xf0\x9f", "\xed\xa0\x80", "\xc0"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = random() % 10; i > 0; --i) text += alphabet[random() % std::size(alphabet)];
    Pieces expected;
    std::string repaired;
    std::vector<size_t> lengths;  // in the text, of each character
    for (const char* p = text.data(); p < text.data() + text.size();) {
      const Utf8Char read = read_utf8(p, text.data() + text.size());
      const size_t length = read.status == Utf8Status::kValid ? read.length : 1;
      repaired += read.status == Utf8Status::kValid ? std::string(p, length) : "\ufffd";
      lengths.push_back(length);
      p += length;
    }
    size_t at = 0, character = 0;
    for (const std::string& piece : split(repaired)) {
      size_t length = 0;
      for (const char c : piece) {
        if ((static_cast<uint8_t>(c) & 0xc0) != 0x80) length += lengths[character++];
      }
      expected.push_back(text.substr(at, length));
      at += length;
    }
    ASSERT_EQ(split(text), expected) << testing::PrintToString(text);
  }
}

TEST(Splitter, AsGpt2) {
  const auto gpt2 = [](std::string_view text) { return split(text, Split::kGpt2); };
  EXPECT_EQ(gpt2("Hello camelCase it's it'S 1234 !? x"),
            (Pieces{"Hello", " camelCase", " it", "'s", " it", "'", "S", " 1234", " !?", " x"}));
  EXPECT_EQ(gpt2("a  b\n\n c  "), (Pieces{"a", " ", " b", "\n\n", " c", "  "}));
  EXPECT_EQ(gpt2("e\u0301\t'"), (Pieces{"e", "\u0301", "\t", "'"}));
  EXPECT_EQ(gpt2("we'll've'l"), (Pieces{"we", "'ll", "'ve", "'", "l"}));
}

TEST(Splitter, NoneLeavesTheTextWhole) {
  EXPECT_EQ(split("a b\n1", Split::kNone), (Pieces{"a b\n1"}));
}

TEST(CharClasses, EqualTheCategoriesOfEveryCodePoint) {
  const CharClasses& classes = CharClasses::get();
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    const std::string_view category =
        utf8proc_category_string(static_cast<utf8proc_int32_t>(code_point));
    const char kind = category[0];
    const bool caseless = category == "Lm" || category == "Lo" || kind == 'M';
    const uint8_t of = classes.of(code_point);
    ASSERT_EQ((of & kUpper) != 0, category == "Lu" || category == "Lt" || caseless) << code_point;
    ASSERT_EQ((of & kLower) != 0, category == "Ll" || caseless) << code_point;
    ASSERT_EQ((of & kLetter) != 0, kind == 'L') << code_point;
    ASSERT_EQ((of & kNumber) != 0, kind == 'N') << code_point;
    const bool space = kind == 'Z' || (code_point >= 9 && code_point <= 13) || code_point == 0x85;
    ASSERT_EQ((of & kSpace) != 0, space) << code_point;
    ASSERT_EQ((of & kNewline) != 0, code_point == 10 || code_point == 13) << code_point;
  }
}

}  // namespace
}  // namespace moxie::bpe
