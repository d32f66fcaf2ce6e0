#include <gtest/gtest.h>

#include <random>

#include "moxie/tokenizer.h"

namespace moxie {
namespace {

constexpr const char* kBad = "\xef\xbf\xbd";

TEST(Utf8Stream, HoldsBackTheStartOfACharacterUntilItIsWhole) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xf0\x9f"), "");
  EXPECT_EQ(stream.push("\x92"), "");
  EXPECT_EQ(stream.push("\x96!"), "\xf0\x9f\x92\x96!");
  EXPECT_EQ(stream.finish(), "");
}

// Token 9552 of o200k is 20 f0 9f.
TEST(Utf8Stream, TwoBrokenStartsThenAWordAsTheSpecShows) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push(" \xf0\x9f"), " ");
  EXPECT_EQ(stream.push(" \xf0\x9f"), std::string(kBad) + " ");
  EXPECT_EQ(stream.push("worked"), std::string(kBad) + "worked");
  EXPECT_EQ(stream.finish(), "");

  EXPECT_EQ(stream.push(" \xf0\x9f"), " ");
  EXPECT_EQ(stream.push("XY"), std::string(kBad) + "XY");
}

TEST(Utf8Stream, FinishReplacesWhatIsHeldByOneMark) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xf0\x9f\x92"), "a");
  EXPECT_EQ(stream.finish(), kBad);
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, OneMarkForEachMaximalInvalidPiece) {
  const struct {
    std::string bytes;
    int marks;
  } cases[] = {
      {"\xff\xfe", 2},
      {"\x80\x80", 2},
      {"\xc0\xaf", 2},          // overlong
      {"\xe0\x9f\x80", 3},      // overlong, found at the second byte
      {"\xed\xa0\x80", 3},      // a surrogate
      {"\xf4\x90\x80\x80", 4},  // past U+10FFFF
      {"\xf5\x80\x80\x80", 4},
      {"\xf0\x90\x80\xff", 2},  // three good bytes are one piece
      {"\xe2\x82\xe2\x82\xac", 1},
  };
  for (const auto& [bytes, marks] : cases) {
    Utf8Stream stream;
    std::string out = stream.push(bytes);
    out += stream.finish();
    int found = 0;
    for (size_t at = out.find(kBad); at != std::string::npos; at = out.find(kBad, at + 3)) ++found;
    EXPECT_EQ(found, marks) << testing::PrintToString(bytes);
  }
}

TEST(Utf8Stream, DoesNotDependOnWhereTheBytesAreCut) {
  std::mt19937 random(7);
  const std::string pieces[] = {"a",    "\xc3\xa4",    "\xe2\x82\xac", "\xf0\x9f\x92\x96",
                                "\xff", "\xe2\x82",    "\xf0\x9f",     "\xed\xa0",
                                "\x80", "\xef\xbf\xbd"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t i = random() % 12; i > 0; --i) text += pieces[random() % std::size(pieces)];
    Utf8Stream whole;
    std::string expected = whole.push(text);
    expected += whole.finish();
    Utf8Stream cut;
    std::string out;
    for (size_t i = 0; i < text.size();) {
      const size_t n = 1 + random() % 3;
      out += cut.push(std::string_view(text).substr(i, n));
      i += n;
    }
    out += cut.finish();
    ASSERT_EQ(out, expected);
  }
}

}  // namespace
}  // namespace moxie
