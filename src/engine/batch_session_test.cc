#include "engine/batch_session.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "moxie/error.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

constexpr int64_t kMaxRows = 24, kContext = 96;

class BatchSessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new Model(random_weights(preset_config("tiny"), 1, 1),
                       make_reference_backend(DType::kBF16, 1), kMaxRows, 6, kContext);
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }

  struct Job {
    std::vector<int32_t> prompt;
    GenerationOptions options;
  };
  // Prompts of one token, of less than a pass, of several; answers of different lengths, drawn and
  // greedy, some ended by a stop token.
  static std::vector<Job> jobs() {
    std::vector<Job> all;
    for (int32_t i = 0; i < 9; ++i) {
      Job job;
      for (int32_t j = 0; j <= (i * 17) % 60; ++j) job.prompt.push_back((i * 71 + j * 37) % 500);
      job.options.sampling.temperature = i % 2 == 0 ? 0 : 0.9;
      job.options.sampling.seed = 3;
      job.options.max_tokens = 1 + (i * 5) % 13;
      if (i == 8) job.options.max_tokens = 0;  // until the context is full
      all.push_back(job);
    }
    return all;
  }
  static std::map<int64_t, BatchResult> run(const std::vector<Job>& all, int64_t slots,
                                            std::vector<int64_t>* order = nullptr) {
    BatchSession session(*model_, kContext, slots);
    std::map<int64_t, BatchResult> results;
    size_t next = 0;
    int64_t drawn = 0, heard = 0;
    while (next < all.size() || !session.idle()) {
      while (next < all.size() && session.has_room()) {
        session.add(static_cast<int64_t>(next), all[next].prompt, all[next].options);
        ++next;
      }
      drawn += session.step([&](int64_t id, BatchResult result) {
        heard += static_cast<int64_t>(result.tokens.size());
        if (order != nullptr) order->push_back(id);
        EXPECT_TRUE(results.emplace(id, std::move(result)).second) << id;
      });
    }
    EXPECT_EQ(drawn, heard);
    return results;
  }

  static Model* model_;
};
Model* BatchSessionTest::model_ = nullptr;

TEST_F(BatchSessionTest, GivesTheTokensOfOneSessionPerPromptWhateverTheNumberOfSlots) {
  std::vector<Job> all = jobs();
  Session alone(*model_, kContext);
  const auto one_by_one = [&](size_t i, std::vector<int32_t>& tokens) {
    return alone.generate(all[i].prompt, all[i].options, [&](int32_t token) {
      tokens.push_back(token);
      return true;
    });
  };
  // A stop token that is sure to come: the third one of job 6.
  std::vector<int32_t> first;
  one_by_one(6, first);
  ASSERT_GE(first.size(), 3u);
  all[6].options.stop_tokens = {first[2]};

  std::vector<BatchResult> want(all.size());
  for (size_t i = 0; i < all.size(); ++i) want[i].reason = one_by_one(i, want[i].tokens);
  EXPECT_EQ(want[6].reason, StopReason::kStopToken);
  EXPECT_EQ(want[8].reason, StopReason::kContextFull);
  for (const int64_t slots : {1, 2, 5, 6}) {
    const std::map<int64_t, BatchResult> got = run(all, slots);
    ASSERT_EQ(got.size(), all.size());
    for (const auto& [id, result] : got) {
      const BatchResult& expected = want[static_cast<size_t>(id)];
      EXPECT_EQ(result.tokens, expected.tokens) << "job " << id << ", slots " << slots;
      EXPECT_EQ(result.reason, expected.reason) << "job " << id << ", slots " << slots;
    }
  }
}

TEST_F(BatchSessionTest, WhoeverEndsMakesRoomForTheNext) {
  std::vector<Job> all = jobs();
  for (Job& job : all) job.options.max_tokens = 4;
  all[0].options.max_tokens = 40;  // runs beside all others
  std::vector<int64_t> order;
  run(all, 2, &order);
  EXPECT_EQ(order, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 0}));
}

TEST_F(BatchSessionTest, RefusesWhatCannotRun) {
  EXPECT_THROW(BatchSession(*model_, kContext, 0), Error);
  EXPECT_THROW(BatchSession(*model_, kContext, 7), Error);  // the model has 6 rows with logits
  BatchSession session(*model_, 20, 2);
  EXPECT_TRUE(session.idle());
  EXPECT_THROW(session.add(0, {}, {}), Error);
  try {
    session.add(0, std::vector<int32_t>(21, 1), {});
    FAIL() << "a prompt longer than the context was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("21 tokens and the context holds 20"),
              std::string::npos);
  }
  EXPECT_THROW(session.add(0, {1}, {.sampling = {.temperature = -1}}), Error);
  EXPECT_TRUE(session.idle());
  session.add(0, {1}, {.max_tokens = 1});
  EXPECT_FALSE(session.idle());
  EXPECT_TRUE(session.has_room());
}

}  // namespace
}  // namespace moxie
