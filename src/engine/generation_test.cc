#include "engine/generation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "moxie/error.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

constexpr int64_t kMaxRows = 24;  // of a forward pass; the tiny model's window is 16

class SessionTest : public testing::Test {
 protected:
  // Many sessions over one model: a session owns nothing but its cache.
  static void SetUpTestSuite() {
    model_ = new Model(random_weights(preset_config("tiny"), 1, 1),
                       make_reference_backend(DType::kBF16, 1), kMaxRows, 1, 256);
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }

  struct Result {
    StopReason reason = StopReason::kStopToken;
    std::vector<int32_t> tokens;
    GenerationStats stats;
  };
  static Result generate(Session& session, const std::vector<int32_t>& prompt,
                         const GenerationOptions& options) {
    Result result;
    result.reason = session.generate(prompt, options, [&](int32_t token) {
      result.tokens.push_back(token);
      return true;
    });
    result.stats = session.stats();
    return result;
  }
  static std::vector<int32_t> some_tokens(int64_t count, int32_t start = 0) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count; ++i)
      tokens.push_back(static_cast<int32_t>((start + i * 37) % 500));
    return tokens;
  }
  static std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  static Model* model_;
};
Model* SessionTest::model_ = nullptr;

GenerationOptions greedy(int64_t max_tokens) {
  return {.sampling = {.temperature = 0}, .max_tokens = max_tokens};
}

TEST_F(SessionTest, GivesTheTokensOfTheForwardPassDoneByHand) {
  const std::vector<int32_t> prompt = some_tokens(60);  // three chunks
  const GenerationOptions options{.sampling = {.temperature = 0.8, .seed = 5}, .max_tokens = 10};
  Session session(*model_, 256);
  const Result result = generate(session, prompt, options);

  KvCache cache = model_->make_cache(256);
  Sampler sampler(options.sampling);
  std::vector<int32_t> want;
  std::span<const float> logits;
  // Other chunks, same rows: prompts run as prefill whatever their length.
  for (size_t begin = 0; begin < prompt.size(); begin += 7) {
    const ForwardChunk chunk{
        &cache, std::span(prompt).subspan(begin, std::min<size_t>(7, prompt.size() - begin)),
        LogitsWanted::kLast};
    logits = model_->forward({&chunk, 1}, Phase::kPrefill);
  }
  for (int64_t i = 0; i < 10; ++i) {
    want.push_back(sampler.sample(logits, 60 + i));
    const ForwardChunk chunk{&cache, {&want.back(), 1}, LogitsWanted::kLast};
    logits = model_->forward({&chunk, 1}, Phase::kDecode);
  }
  EXPECT_EQ(result.tokens, want);
  EXPECT_EQ(result.reason, StopReason::kMaxTokens);
  EXPECT_EQ(result.stats.prompt_tokens, 60);
  EXPECT_EQ(result.stats.cached_tokens, 0);
  EXPECT_EQ(result.stats.generated_tokens, 10);
}

TEST_F(SessionTest, SameSeedSameTokensAndAnotherSeedOthers) {
  const auto with_seed = [&](uint64_t seed) {
    Session session(*model_, 256);
    return generate(session, some_tokens(5), {.sampling = {.seed = seed}, .max_tokens = 30}).tokens;
  };
  EXPECT_EQ(with_seed(1), with_seed(1));
  EXPECT_NE(with_seed(1), with_seed(2));
}

TEST_F(SessionTest, ContinuesAConversationWithoutComputingItsStartAgain) {
  Session session(*model_, 256);
  const std::vector<int32_t> first = some_tokens(40);
  const Result answer = generate(session, first, greedy(8));
  // The last token was drawn but never run, so it is not in the cache.
  const std::vector<int32_t> second = joined(joined(first, answer.tokens), some_tokens(10, 3));
  const Result next = generate(session, second, greedy(8));
  EXPECT_EQ(next.stats.cached_tokens, 47);
  EXPECT_EQ(next.stats.prompt_tokens, 58);
}

TEST_F(SessionTest, AReusedPrefixGivesTheTokensOfAFreshSession) {
  const std::vector<int32_t> first = some_tokens(30), second = joined(first, some_tokens(9, 11));
  Session reused(*model_, 256), fresh(*model_, 256);
  // One token of answer, so that all of the cache comes from prefill, as in the fresh session.
  generate(reused, first, greedy(1));
  const Result a = generate(reused, second, greedy(20)), b = generate(fresh, second, greedy(20));
  EXPECT_EQ(a.stats.cached_tokens, 30);
  EXPECT_EQ(a.tokens, b.tokens);
}

TEST_F(SessionTest, APromptThatIsWhollyCachedRunsItsLastTokenAgain) {
  Session session(*model_, 256);
  const std::vector<int32_t> prompt = some_tokens(20);
  const Result a = generate(session, prompt, greedy(1)), b = generate(session, prompt, greedy(1));
  EXPECT_EQ(b.stats.cached_tokens, 19);
  EXPECT_EQ(a.tokens, b.tokens);
  const std::vector<int32_t> shorter(prompt.begin(), prompt.begin() + 15);
  EXPECT_EQ(generate(session, shorter, greedy(1)).stats.cached_tokens, 14);
}

TEST_F(SessionTest, StartsOverWhenTheRingNoLongerHoldsTheBranchingPoint) {
  Session session(*model_, 256), fresh(*model_, 256);
  generate(session, some_tokens(200), greedy(1));
  // Shares 20 tokens, but the ring of the window layers has gone far past them.
  const std::vector<int32_t> prompt = joined(some_tokens(20), some_tokens(30, 7));
  const Result a = generate(session, prompt, greedy(12));
  EXPECT_EQ(a.stats.cached_tokens, 0);
  EXPECT_EQ(a.tokens, generate(fresh, prompt, greedy(12)).tokens);
}

TEST_F(SessionTest, KeepsWhatIsToBeRewound) {
  Session session(*model_, 256, 180), fresh(*model_, 256);
  generate(session, some_tokens(200), greedy(1));
  const std::vector<int32_t> prompt = joined(some_tokens(20), some_tokens(30, 7));
  const Result a = generate(session, prompt, greedy(12));
  EXPECT_EQ(a.stats.cached_tokens, 20);
  EXPECT_EQ(a.tokens, generate(fresh, prompt, greedy(12)).tokens);
}

TEST_F(SessionTest, StopsAtAStopTokenAndShowsIt) {
  Session session(*model_, 256);
  const std::vector<int32_t> free_run = generate(session, some_tokens(6), greedy(12)).tokens;
  GenerationOptions options = greedy(12);
  options.stop_tokens = {511, free_run[4]};
  const size_t first = static_cast<size_t>(
      std::find(free_run.begin(), free_run.end(), free_run[4]) - free_run.begin());
  const Result result = generate(session, some_tokens(6), options);
  EXPECT_EQ(result.reason, StopReason::kStopToken);
  EXPECT_EQ(result.tokens, std::vector<int32_t>(free_run.begin(),
                                                free_run.begin() + static_cast<long>(first) + 1));
}

TEST_F(SessionTest, FillsTheContextToTheLastPosition) {
  Session session(*model_, 50);
  const Result result = generate(session, some_tokens(44), greedy(0));
  EXPECT_EQ(result.reason, StopReason::kContextFull);
  // Positions 44 .. 49 are run; the draw after the last of them is the seventh.
  EXPECT_EQ(result.tokens.size(), 7u);
  const Result full = generate(session, some_tokens(50), greedy(0));
  EXPECT_EQ(full.reason, StopReason::kContextFull);
  EXPECT_EQ(full.tokens.size(), 1u);
}

TEST_F(SessionTest, RefusesAPromptLongerThanTheContextWithBothNumbers) {
  Session session(*model_, 50);
  try {
    generate(session, some_tokens(51), greedy(1));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    const std::string text = error.what();
    EXPECT_NE(text.find("51 tokens"), std::string::npos) << text;
    EXPECT_NE(text.find("50"), std::string::npos) << text;
  }
  EXPECT_THROW(generate(session, {}, greedy(1)), Error);
  // And is usable afterwards.
  EXPECT_EQ(generate(session, some_tokens(50), greedy(1)).tokens.size(), 1u);
}

TEST_F(SessionTest, ATokenOutsideTheVocabularyLeavesTheSessionUsable) {
  Session session(*model_, 256), fresh(*model_, 256);
  std::vector<int32_t> bad = some_tokens(30);
  bad[28] = 512;
  EXPECT_THROW(generate(session, bad, greedy(1)), Error);
  EXPECT_EQ(generate(session, some_tokens(30), greedy(5)).tokens,
            generate(fresh, some_tokens(30), greedy(5)).tokens);
}

TEST_F(SessionTest, CancelEndsPrefillBetweenChunks) {
  Session session(*model_, 256), fresh(*model_, 256);
  const std::vector<int32_t> prompt = some_tokens(100);
  int64_t done_at_last = 0;
  const StopReason reason = session.generate(
      prompt, greedy(5), [](int32_t) { return true; },
      [&](int64_t done, int64_t total) {
        EXPECT_EQ(total, 100);
        done_at_last = done;
        if (done >= 48) session.cancel();
      });
  EXPECT_EQ(reason, StopReason::kCancelled);
  EXPECT_EQ(done_at_last, 48);
  EXPECT_EQ(session.stats().generated_tokens, 0);
  // What was done counts, and the cancellation does not outlive the call.
  const Result again = generate(session, prompt, greedy(5));
  EXPECT_EQ(again.stats.cached_tokens, 48);
  EXPECT_EQ(again.tokens, generate(fresh, prompt, greedy(5)).tokens);
}

TEST_F(SessionTest, CancelEndsDecodeBeforeTheNextStep) {
  Session session(*model_, 256);
  std::vector<int32_t> tokens;
  const StopReason reason = session.generate(some_tokens(4), greedy(50), [&](int32_t token) {
    tokens.push_back(token);
    if (tokens.size() == 3) session.cancel();
    return true;
  });
  EXPECT_EQ(reason, StopReason::kCancelled);
  EXPECT_EQ(tokens.size(), 3u);
  session.cancel();  // before: the next generation ends before it begins
  EXPECT_EQ(generate(session, some_tokens(4), greedy(5)).tokens.size(), 0u);
  EXPECT_EQ(generate(session, some_tokens(4), greedy(5)).tokens.size(), 5u);
}

TEST_F(SessionTest, OnTokenMayStop) {
  Session session(*model_, 256);
  int count = 0;
  EXPECT_EQ(session.generate(some_tokens(4), greedy(50), [&](int32_t) { return ++count < 2; }),
            StopReason::kCancelled);
  EXPECT_EQ(count, 2);
}

TEST_F(SessionTest, NeverDrawsWhatTheTokenizerDoesNotKnow) {
  Session session(*model_, 256);
  GenerationOptions options{.sampling = {.temperature = 2}, .max_tokens = 60, .sample_below = 100};
  for (const int32_t token : generate(session, some_tokens(4), options).tokens)
    ASSERT_LT(token, 100);
}

}  // namespace
}  // namespace moxie
