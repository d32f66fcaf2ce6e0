#include "stop_text.h"

#include <gtest/gtest.h>

namespace moxie::cli {
namespace {

// The text that comes out when it goes in piece by piece.
std::string through(StopText& filter, std::string_view text, size_t piece) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) out += filter.push(text.substr(at, piece));
  return out + filter.finish();
}

TEST(StopText, LetsEverythingThroughWithoutStops) {
  StopText filter({});
  EXPECT_EQ(filter.push("abc"), "abc");
  EXPECT_EQ(filter.finish(), "");
  EXPECT_FALSE(filter.stopped());
  StopText empty({""});
  EXPECT_EQ(empty.push("abc"), "abc");
}

TEST(StopText, EndsBeforeTheStopHoweverTheTextIsCut) {
  for (size_t piece = 1; piece <= 20; ++piece) {
    StopText filter({"\nUser:", "END"});
    EXPECT_EQ(through(filter, "one\nUse two\n\nUser: three END", piece), "one\nUse two\n") << piece;
    EXPECT_TRUE(filter.stopped());
    EXPECT_EQ(filter.push("more"), "");
  }
}

TEST(StopText, TakesTheEarliestOfSeveral) {
  StopText filter({"later", "now", "no"});
  EXPECT_EQ(filter.push("right now or later"), "right ");
}

TEST(StopText, HoldsBackOnlyWhatMayBecomeAStop) {
  StopText filter({"aab"});
  EXPECT_EQ(filter.push("xa"), "x");
  EXPECT_EQ(filter.push("a"), "");
  EXPECT_EQ(filter.push("a"), "a");  // "aaa": its last two may still begin "aab"
  EXPECT_EQ(filter.push("c"), "aac");
  EXPECT_EQ(filter.push("aa"), "");
  EXPECT_EQ(filter.finish(), "aa");
}

}  // namespace
}  // namespace moxie::cli
