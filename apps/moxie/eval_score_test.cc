#include "eval_score.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moxie::cli {
namespace {

Message said(const std::string& channel, const std::string& content) {
  return {.role = Role::kAssistant, .channel = channel, .content = content};
}

Message called(const std::string& function, const std::string& arguments) {
  return {.role = Role::kAssistant,
          .recipient = function,
          .channel = "commentary",
          .content = arguments};
}

const Expectation kFive{Expectation::Kind::kFinal, "5", ""};
const Expectation kUpper{Expectation::Kind::kPattern, "[A-Z ]+", ""};
const Expectation kWeather{Expectation::Kind::kCall, "get_weather", R"({"city": "Oslo", "n": 3})"};

Verdict judge_ended(const Expectation& expect, const std::vector<Message>& messages) {
  return judge(expect, StopReason::kStopToken, messages);
}

TEST(Judge, ComparesTheFinalTextAndNothingElse) {
  EXPECT_EQ(judge_ended(kFive, {said("analysis", "2+3"), said("final", " 5\n")}), Verdict::kRight);
  EXPECT_EQ(judge_ended(kFive, {said("final", "55")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended(kFive, {said("final", "5 ."), said("analysis", "5")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended(kFive, {said("final", "")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended(kFive, {said("final", "5"), said("final", "5")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended({Expectation::Kind::kFinal, "", ""}, {said("final", " ")}),
            Verdict::kRight);
}

TEST(Judge, AnAnswerElsewhereIsNone) {
  EXPECT_EQ(judge_ended(kFive, {}), Verdict::kNoFinal);
  EXPECT_EQ(judge_ended(kFive, {said("analysis", "5"), said("commentary", "5"), said("", "5")}),
            Verdict::kNoFinal);
  Message call = called("functions.get_weather", "5");
  call.channel = "final";
  EXPECT_EQ(judge_ended(kFive, {call}), Verdict::kNoFinal);
}

TEST(Judge, WhatWasCutIsNotRight) {
  EXPECT_EQ(judge(kFive, StopReason::kMaxTokens, {said("final", "5")}), Verdict::kMaxTokens);
  EXPECT_EQ(judge(kFive, StopReason::kContextFull, {said("final", "5")}), Verdict::kContextFull);
  EXPECT_EQ(judge(kWeather, StopReason::kMaxTokens, {}), Verdict::kMaxTokens);
}

TEST(Judge, APatternMatchesAllOfTheText) {
  EXPECT_EQ(judge_ended(kUpper, {said("final", "YES SIR")}), Verdict::kRight);
  EXPECT_EQ(judge_ended(kUpper, {said("final", "YES sir")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended(kUpper, {said("final", "YES\n")}), Verdict::kWrong);
  EXPECT_EQ(judge_ended(kUpper, {said("final", "")}), Verdict::kWrong);
}

TEST(Judge, CallsAreComparedByFunctionAndValue) {
  const auto judged = [](const std::string& function, const std::string& arguments) {
    return judge_ended(kWeather, {said("analysis", "hm"), called(function, arguments)});
  };
  EXPECT_EQ(judged("functions.get_weather", R"({"n":3.0, "city":"\u004fslo"})"), Verdict::kRight);
  EXPECT_EQ(judged("functions.get_weather", R"({"n":3, "city":"oslo"})"), Verdict::kWrong);
  EXPECT_EQ(judged("functions.get_weather", R"({"city":"Oslo"})"), Verdict::kWrong);
  EXPECT_EQ(judged("functions.get_weather", R"({"city":"Oslo", "n":3)"), Verdict::kNotJson);
  EXPECT_EQ(judged("functions.get_weather", ""), Verdict::kNotJson);
  EXPECT_EQ(judged("functions.get_time", R"({"city":"Oslo", "n":3})"), Verdict::kWrongFunction);
  EXPECT_EQ(judge_ended(kWeather, {said("final", R"({"city": "Oslo", "n": 3})")}),
            Verdict::kNoCall);
  // The first call counts.
  EXPECT_EQ(judge_ended(kWeather, {called("functions.get_weather", "{}"),
                                   called("functions.get_weather", kWeather.arguments)}),
            Verdict::kWrong);
}

TEST(SameJson, NumbersAreComparedByValue) {
  EXPECT_TRUE(same_json("3", "3.0"));
  EXPECT_TRUE(same_json("3e2", "300"));
  EXPECT_TRUE(same_json("-0.0", "0"));
  EXPECT_TRUE(same_json("18446744073709551615", "18446744073709551615"));
  EXPECT_FALSE(same_json("3", "3.5"));
  EXPECT_FALSE(same_json("3", "\"3\""));
  EXPECT_FALSE(same_json("1", "true"));
  // 2^53 + 1 is no double, so its neighbour must not pass for it.
  EXPECT_FALSE(same_json("9007199254740993", "9007199254740992.0"));
  EXPECT_TRUE(same_json("9007199254740992", "9007199254740992.0"));
  // At the ends of the ranges: 2^63 and 2^64 as doubles are no int64 and no uint64.
  EXPECT_FALSE(same_json("9223372036854775807", "9223372036854775808.0"));
  EXPECT_TRUE(same_json("9223372036854775808", "9223372036854775808.0"));
  EXPECT_FALSE(same_json("18446744073709551615", "18446744073709551616.0"));
  EXPECT_TRUE(same_json("-9223372036854775808", "-9223372036854775808.0"));
  EXPECT_FALSE(same_json("9223372036854775808", "-9223372036854775808"));
}

TEST(SameJson, OrderMattersInArraysAndNotInObjects) {
  EXPECT_TRUE(same_json(R"({"a": 1, "b": [1, {"c": 2, "d": null}]})",
                        R"({"b": [1.0, {"d": null, "c": 2}], "a": 1})"));
  EXPECT_FALSE(same_json("[1, 2]", "[2, 1]"));
  EXPECT_FALSE(same_json("[1]", "[1, 1]"));
  EXPECT_FALSE(same_json(R"({"a": 1})", R"({"a": 1, "b": null})"));
  EXPECT_FALSE(same_json(R"({"a": 1})", R"({"b": 1})"));
  EXPECT_FALSE(same_json("{", "{"));
}

TEST(Pattern, LongTextsMatchNothingInsteadOfUsingUpTheStack) {
  EXPECT_TRUE(matches_pattern(std::string(kMaxPatternText, 'a'), "(.|\\n)*"));
  EXPECT_FALSE(matches_pattern(std::string(kMaxPatternText + 1, 'a'), "(.|\\n)*"));
  EXPECT_EQ(pattern_problem("[a-z]+( [0-9]{2})?"), "");
  EXPECT_NE(pattern_problem("(a"), "");
}

TEST(WilsonInterval, SolvesItsEquation) {
  // (p - k/n)^2 = z^2 p (1 - p) / n, its roots found by bisection.
  struct Case {
    int64_t right, items;
    double low, high;
  };
  for (const Case& c : {Case{8, 10, 0.4901624715366417, 0.9433178485456248},
                        Case{0, 10, 0, 0.2775327998628893}, Case{10, 10, 0.7224672001371107, 1},
                        Case{50, 100, 0.4038315303659956, 0.5961684696340044}}) {
    const Interval interval = wilson_interval(c.right, c.items);
    EXPECT_NEAR(interval.low, c.low, 1e-12) << c.right << " of " << c.items;
    EXPECT_NEAR(interval.high, c.high, 1e-12) << c.right << " of " << c.items;
  }
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(Tally, PoolsTokensAndNotPerplexities) {
  Tally tally;
  EXPECT_EQ(tally.share(), 0);
  EXPECT_EQ(tally.mean_answer_tokens(), 0);
  ItemResult result;
  result.verdict = Verdict::kRight;
  result.answer_tokens = 10;
  result.reference_tokens = 1;
  result.reference_nll = std::log(8.0);
  tally.add(result);
  result.verdict = Verdict::kNotJson;
  result.answer_tokens = 5;
  result.reference_tokens = 2;
  result.reference_nll = 0;
  tally.add(result);
  EXPECT_EQ(tally.right(), 1);
  EXPECT_EQ(tally.count(Verdict::kNotJson), 1);
  EXPECT_EQ(tally.share(), 0.5);
  EXPECT_EQ(tally.mean_answer_tokens(), 7.5);
  EXPECT_NEAR(tally.perplexity(), 2, 1e-15);  // exp(ln 8 / 3)
}

}  // namespace
}  // namespace moxie::cli
