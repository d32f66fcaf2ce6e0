#include "engine/likelihood.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/test_checkpoint.h"
#include "moxie/error.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

std::vector<int32_t> some_tokens(int32_t count, int32_t start) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((start + i * 37) % 500);
  return tokens;
}

// Straight from the definition, in long double: all logits of one pass, a softmax of each row.
double by_definition(Model& model, const std::vector<int32_t>& prompt,
                     const std::vector<int32_t>& targets) {
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), targets.begin(), targets.end());
  KvCache cache = model.make_cache(static_cast<int64_t>(all.size()));
  const ForwardChunk chunk{&cache, all, LogitsWanted::kAll};
  const std::span<const float> logits = model.forward({&chunk, 1}, Phase::kPrefill);
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  long double sum = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::span<const float> row = logits.subspan((prompt.size() - 1 + i) * vocab, vocab);
    long double mass = 0;
    for (const float logit : row) mass += std::exp(static_cast<long double>(logit));
    sum -=
        std::log(std::exp(static_cast<long double>(row[static_cast<size_t>(targets[i])])) / mass);
  }
  return static_cast<double>(sum);
}

// A checkpoint on disk, so that what is measured is what a user's folder would give.
class LikelihoodTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    const GptOssWeights weights = random_weights(preset_config("tiny"), 7, 1);
    test::write_checkpoint(folder_->path(), weights.config, CheckpointLayout::kHuggingFace,
                           test::tensors_of(weights, CheckpointLayout::kHuggingFace));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static Model model(int64_t max_rows, int64_t max_logits) {
    return Model(load_weights(folder_->path()), make_reference_backend(DType::kBF16, 1), max_rows,
                 max_logits, 96);
  }
  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* LikelihoodTest::folder_ = nullptr;

TEST_F(LikelihoodTest, IsWhatTheLogitsOfOnePassSay) {
  Model whole = model(96, 96);
  KvCache cache = whole.make_cache(96);
  for (const auto& [prompt, targets] : {std::pair(1, 1), std::pair(1, 40), std::pair(50, 30)}) {
    const std::vector<int32_t> before = some_tokens(prompt, 3), after = some_tokens(targets, 11);
    const double want = by_definition(whole, before, after);
    EXPECT_GT(want, 0);
    // Terms of about ln 512 in float64: far below 1e-12 each.
    EXPECT_NEAR(negative_log_likelihood(whole, cache, before, after), want, 1e-10)
        << prompt << " and " << targets;
  }
}

TEST_F(LikelihoodTest, HowItIsCutIntoPassesDoesNotShow) {
  const std::vector<int32_t> prompt = some_tokens(45, 0), targets = some_tokens(33, 5);
  Model whole = model(96, 96), pieces = model(7, 3);
  KvCache whole_cache = whole.make_cache(96), pieces_cache = pieces.make_cache(78);
  const double want = negative_log_likelihood(whole, whole_cache, prompt, targets);
  EXPECT_EQ(negative_log_likelihood(pieces, pieces_cache, prompt, targets), want);
  EXPECT_EQ(negative_log_likelihood(pieces, pieces_cache, prompt, targets), want);  // cache reused
}

TEST_F(LikelihoodTest, OfNothingIsCertainAndEdgesAreRefused) {
  Model whole = model(16, 4);
  KvCache cache = whole.make_cache(10);
  EXPECT_EQ(negative_log_likelihood(whole, cache, some_tokens(3, 0), {}), 0);
  EXPECT_THROW(negative_log_likelihood(whole, cache, {}, some_tokens(3, 0)), Error);
  const std::vector<int32_t> prompt = some_tokens(5, 0), outside = {100000};
  EXPECT_THROW(negative_log_likelihood(whole, cache, prompt, outside), Error);
  EXPECT_THROW(negative_log_likelihood(whole, cache, prompt, some_tokens(7, 0)), Error);
  EXPECT_GT(negative_log_likelihood(whole, cache, prompt, some_tokens(6, 0)), 0);
}

}  // namespace
}  // namespace moxie
