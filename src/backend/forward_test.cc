// What holds for the forward pass whoever carries it out: the same bits however a prompt is cut and
// whoever shares the batch, and refusals that change nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "base/check.h"
#include "base/test_allocations.h"
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "model/model.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

struct Maker {
  std::string name;
  std::function<std::unique_ptr<Backend>(int num_threads)> make;
};

std::vector<Maker> makers() {
  std::vector<Maker> all = {
      {"ReferenceFp32", [](int threads) { return make_reference_backend(DType::kF32, threads); }},
      {"ReferenceBf16", [](int threads) { return make_reference_backend(DType::kBF16, threads); }}};
  for (const cpu::Isa isa : cpu::usable_isas())
    all.push_back({concat("Cpu_", cpu::name(isa)),
                   [isa](int threads) { return make_cpu_backend(threads, isa); }});
  return all;
}

constexpr int64_t kContext = 128;

class Forward : public testing::TestWithParam<Maker> {
 protected:
  Model make_model(int64_t max_rows, int threads = 1) const {
    return Model(random_weights(config, 42, 1), GetParam().make(threads), max_rows, max_rows,
                 kContext);
  }
  std::vector<int32_t> tokens(int64_t count, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int32_t& token : out)
      token = static_cast<int32_t>(random() % static_cast<uint32_t>(config.vocab_size));
    return out;
  }
  // Logits of all positions; chunks of the given sizes, the last one repeated.
  std::vector<float> run(Model& model, KvCache& cache, std::span<const int32_t> prompt,
                         std::vector<int64_t> sizes, Phase phase = Phase::kPrefill) const {
    std::vector<float> out;
    for (size_t i = 0; !prompt.empty(); ++i) {
      const int64_t size = sizes[std::min(i, sizes.size() - 1)];
      const auto count = std::min(static_cast<size_t>(size), prompt.size());
      const ForwardChunk chunk = {&cache, prompt.first(count), LogitsWanted::kAll};
      const auto logits = model.forward({&chunk, 1}, phase);
      out.insert(out.end(), logits.begin(), logits.end());
      prompt = prompt.subspan(count);
    }
    return out;
  }

  const GptOssConfig config = preset_config("tiny");  // window 16, 4 layers
  const size_t vocab = static_cast<size_t>(config.vocab_size);
};
INSTANTIATE_TEST_SUITE_P(Backends, Forward, testing::ValuesIn(makers()),
                         [](const auto& param_info) { return param_info.param.name; });

TEST_P(Forward, ChunkedPrefillGivesTheBitsOfOnePass) {
  Model model = make_model(100);
  const std::vector<int32_t> prompt = tokens(100, 1);  // six windows
  KvCache whole = model.make_cache(kContext);
  const std::vector<float> want = run(model, whole, prompt, {100});
  ASSERT_EQ(want.size(), 100 * vocab);
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{1}, {7}, {16}, {17, 1, 33}, {99, 1}, {64, 32}}) {
    KvCache cache = model.make_cache(kContext);
    EXPECT_TRUE(run(model, cache, prompt, sizes) == want) << "first chunk of " << sizes[0];
  }
  // A model of short passes has short rings, which wrap.
  Model short_passes = make_model(5);
  KvCache ring = short_passes.make_cache(kContext);
  EXPECT_TRUE(run(short_passes, ring, prompt, {5}) == want);
}

TEST_P(Forward, BatchGivesTheBitsOfEachSequenceAlone) {
  Model model = make_model(64);
  const std::vector<std::vector<int32_t>> prompts = {tokens(1, 2), tokens(20, 3), tokens(7, 4),
                                                     tokens(33, 5)};
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    std::vector<KvCache> caches;
    for (size_t i = 0; i < prompts.size(); ++i) caches.push_back(model.make_cache(kContext));
    std::vector<ForwardChunk> chunks;
    for (size_t i = 0; i < prompts.size(); ++i)
      chunks.push_back({&caches[i], prompts[i], LogitsWanted::kAll});
    const auto together = model.forward(chunks, phase);
    const std::vector<float> all(together.begin(), together.end());
    // Then one more token each, in another order and company.
    const std::vector<int32_t> next = tokens(4, 6);
    std::vector<ForwardChunk> steps;
    for (const size_t i : {size_t{3}, size_t{1}, size_t{0}, size_t{2}})
      steps.push_back({&caches[i], std::span(next).subspan(i, 1), LogitsWanted::kLast});
    const auto stepped = model.forward(steps, Phase::kDecode);
    const std::vector<float> last(stepped.begin(), stepped.end());

    size_t row = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      KvCache cache = model.make_cache(kContext);
      const std::vector<float> alone = run(model, cache, prompts[i], {64}, phase);
      EXPECT_TRUE(
          std::equal(alone.begin(), alone.end(), all.begin() + static_cast<int64_t>(row * vocab)))
          << "sequence " << i;
      row += prompts[i].size();
      const ForwardChunk step = {&cache, std::span(next).subspan(i, 1), LogitsWanted::kLast};
      const auto logits = model.forward({&step, 1}, Phase::kDecode);
      const size_t place = i == 3 ? 0 : i == 1 ? 1 : i == 0 ? 2 : 3;
      EXPECT_TRUE(std::equal(logits.begin(), logits.end(),
                             last.begin() + static_cast<int64_t>(place * vocab)))
          << "sequence " << i;
    }
  }
}

TEST_P(Forward, LogitsOfTheLastRowAndOfNone) {
  Model model = make_model(64);
  const std::vector<int32_t> a = tokens(9, 7), b = tokens(5, 8), c = tokens(3, 9);
  KvCache caches[] = {model.make_cache(kContext), model.make_cache(kContext),
                      model.make_cache(kContext)};
  const ForwardChunk chunks[] = {{&caches[0], a, LogitsWanted::kLast},
                                 {&caches[1], b, LogitsWanted::kNone},
                                 {&caches[2], c, LogitsWanted::kAll}};
  // In the decode phase kAll's kernel is kLast's, so all can be compared bit for bit.
  const auto logits = model.forward(chunks, Phase::kDecode);
  ASSERT_EQ(logits.size(), 4 * vocab);
  const std::vector<float> got(logits.begin(), logits.end());
  KvCache cache_a = model.make_cache(kContext), cache_c = model.make_cache(kContext);
  const std::vector<float> all_a = run(model, cache_a, a, {64}, Phase::kDecode);
  const std::vector<float> all_c = run(model, cache_c, c, {64}, Phase::kDecode);
  EXPECT_TRUE(std::equal(all_a.end() - static_cast<int64_t>(vocab), all_a.end(), got.begin()));
  EXPECT_TRUE(std::equal(all_c.begin(), all_c.end(), got.begin() + static_cast<int64_t>(vocab)));
  EXPECT_EQ(caches[1].length(), 5);
}

// Rows without logits leave the last layer early, but not before their keys and values are stored.
TEST_P(Forward, ChunksWithoutLogitsLeaveTheSameCache) {
  Model model = make_model(64);
  const std::vector<int32_t> prompt = tokens(50, 17), other = tokens(11, 18);
  const std::vector<int32_t> next = tokens(3, 19);
  KvCache whole = model.make_cache(kContext), cut = model.make_cache(kContext),
          beside = model.make_cache(kContext);
  run(model, whole, prompt, {50});
  const ForwardChunk first[] = {{&cut, std::span(prompt).first(20), LogitsWanted::kNone}};
  EXPECT_TRUE(model.forward(first, Phase::kPrefill).empty());
  const ForwardChunk second[] = {{&beside, other, LogitsWanted::kNone},
                                 {&cut, std::span(prompt).subspan(20), LogitsWanted::kLast}};
  EXPECT_EQ(model.forward(second, Phase::kPrefill).size(), vocab);
  EXPECT_EQ(run(model, cut, next, {1}, Phase::kDecode),
            run(model, whole, next, {1}, Phase::kDecode));
}

// The phases may sum in different orders; how far that may go is the arithmetic's: a few units in
// the last place per operation.
TEST_P(Forward, DecodeContinuesWhatPrefillBegan) {
  Model model = make_model(100);
  const std::vector<int32_t> prompt = tokens(100, 10);
  KvCache whole = model.make_cache(kContext), stepwise = model.make_cache(kContext);
  const std::vector<float> want = run(model, whole, prompt, {100});
  run(model, stepwise, std::span(prompt).first(30), {30});
  const std::vector<float> got =
      run(model, stepwise, std::span(prompt).subspan(30), {1}, Phase::kDecode);
  const bool fp32 = model.backend().activation_dtype() == DType::kF32;
  std::vector<double> errors;
  for (size_t row = 30; row < 100; ++row) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < vocab; ++i) {
      const double a = got[(row - 30) * vocab + i], b = want[row * vocab + i];
      difference += (a - b) * (a - b);
      size += b * b;
    }
    errors.push_back(std::sqrt(difference / size));
  }
  std::sort(errors.begin(), errors.end());
  // The median: a router's near tie may flip in bf16 and change single rows altogether.
  EXPECT_LE(errors[errors.size() / 2], fp32 ? 1e-6 : 0.02);
}

TEST_P(Forward, TruncatedCacheGoesOnAsIfTheRestHadNeverBeen) {
  Model model = make_model(10);
  const std::vector<int32_t> prompt = tokens(60, 11), other = tokens(30, 12);
  KvCache straight = model.make_cache(kContext);
  run(model, straight, std::span(prompt).first(52), {10});
  const std::vector<float> want = run(model, straight, other, {10});

  KvCache cache = model.make_cache(kContext);
  run(model, cache, prompt, {10});
  ASSERT_FALSE(cache.truncate(49));  // the rings of 16 - 1 + 10 hold 35 .. 59; 34 would be needed
  ASSERT_TRUE(cache.truncate(52));
  EXPECT_TRUE(run(model, cache, other, {10}) == want);

  ASSERT_TRUE(cache.truncate(0));
  KvCache fresh = model.make_cache(kContext);
  EXPECT_TRUE(run(model, cache, prompt, {10}) == run(model, fresh, prompt, {10}));
}

TEST_P(Forward, ThreadsDoNotChangeABit) {
  const std::vector<int32_t> prompt = tokens(40, 13);
  Model one = make_model(40, 1), three = make_model(40, 3);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    KvCache cache_one = one.make_cache(kContext), cache_three = three.make_cache(kContext);
    EXPECT_TRUE(run(one, cache_one, prompt, {40}, phase) ==
                run(three, cache_three, prompt, {40}, phase));
  }
}

TEST_P(Forward, AllocatesNothing) {
  Model model = make_model(32);
  KvCache cache = model.make_cache(kContext);
  const std::vector<int32_t> prompt = tokens(33, 14);
  const ForwardChunk prefill = {&cache, std::span(prompt).first(32), LogitsWanted::kLast};
  const ForwardChunk decode = {&cache, std::span(prompt).subspan(32), LogitsWanted::kLast};
  const long before = test::num_allocations();
  model.forward({&prefill, 1}, Phase::kPrefill);
  model.forward({&decode, 1}, Phase::kDecode);
  EXPECT_EQ(test::num_allocations(), before);
}

TEST_P(Forward, RefusesAndChangesNothing) {
  Model model = make_model(16);
  KvCache cache = model.make_cache(20), second = model.make_cache(20);
  const std::vector<int32_t> prompt = tokens(20, 15);
  const auto refusal = [&](std::vector<ForwardChunk> chunks) -> std::string {
    try {
      model.forward(chunks, Phase::kPrefill);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "accepted";
  };
  const auto first = [&](size_t count) { return std::span(prompt).first(count); };
  run(model, cache, first(10), {10});

  const std::vector<int32_t> negative = {-1}, beyond = {3, 512};
  EXPECT_EQ(refusal({{&cache, negative}}), "token id -1 is outside the vocabulary of 512");
  EXPECT_EQ(refusal({{&cache, beyond}}), "token id 512 is outside the vocabulary of 512");
  EXPECT_EQ(refusal({{&second, first(4)}, {&cache, beyond}}),
            "token id 512 is outside the vocabulary of 512");
  EXPECT_EQ(
      refusal({{&cache, first(11)}}),
      "the context is full: it holds 20 tokens, 10 are there and 11 more came; use a larger --ctx");
  EXPECT_EQ(refusal({{&second, first(17)}}),
            "sequence 0 has 17 tokens, its cache takes at most 16 at a time");
  EXPECT_EQ(refusal({{&second, first(10)}, {&cache, first(7)}}),
            "a forward pass takes at most 16 tokens, got 17");
  EXPECT_EQ(refusal({{&cache, first(0)}}), "sequence 0 has no tokens");
  EXPECT_EQ(refusal({{nullptr, first(1)}}), "sequence 0 has no cache");
  EXPECT_EQ(refusal({{&cache, first(1)}, {&cache, first(1)}}),
            "sequences 0 and 1 of a forward pass share one cache");
  EXPECT_EQ(refusal({}), "a forward pass needs at least one sequence");
  KvCache foreign(config,
                  model.backend().activation_dtype() == DType::kF32 ? DType::kBF16 : DType::kF32,
                  20, 16);
  EXPECT_EQ(refusal({{&foreign, first(1)}}), "the cache of sequence 0 was made for another model");
  EXPECT_THROW(model.make_cache(kContext + 1), Error);

  EXPECT_EQ(cache.length(), 10);
  EXPECT_EQ(second.length(), 0);
  // And what was there is intact.
  KvCache fresh = model.make_cache(20);
  const std::vector<float> want = run(model, fresh, prompt, {10});
  const std::vector<float> got = run(model, cache, std::span(prompt).subspan(10), {10});
  EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin() + static_cast<int64_t>(10 * vocab)));
}

TEST_P(Forward, LogitsAreFiniteVariedAndNotRoundedToBf16) {
  Model model = make_model(16);
  KvCache cache = model.make_cache(kContext);
  const std::vector<float> logits = run(model, cache, tokens(16, 16), {16});
  double squares = 0;
  size_t rounded = 0;
  for (const float value : logits) {
    ASSERT_TRUE(std::isfinite(value));
    squares += static_cast<double>(value) * static_cast<double>(value);
    rounded += round_to_bf16(value) == value;
  }
  EXPECT_GT(squares / static_cast<double>(logits.size()), 0.1);
  EXPECT_LT(rounded, logits.size() / 100);  // by chance one in 65536
}

// Every backend in bf16 stands as near to the float32 oracle as the reference in bf16 does.
TEST_P(Forward, IsAsNearToTheOracleAsTheBf16Reference) {
  const auto errors_of = [&](const Maker& maker, Phase phase) {
    const std::vector<int32_t> prompt = tokens(96, 17);
    const auto logits_of = [&](std::unique_ptr<Backend> backend) {
      Model model(random_weights(config, 42, 1), std::move(backend), 96, 96, kContext);
      KvCache cache = model.make_cache(kContext);
      return run(model, cache, prompt, {96}, phase);
    };
    const std::vector<float> want = logits_of(make_reference_backend(DType::kF32, 2));
    const std::vector<float> got = logits_of(maker.make(2));
    std::vector<double> errors;
    for (size_t row = 0; row < 96; ++row) {
      double difference = 0, size = 0;
      for (size_t i = row * vocab; i < (row + 1) * vocab; ++i) {
        const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
        difference += d * d;
        size += static_cast<double>(want[i]) * static_cast<double>(want[i]);
      }
      errors.push_back(std::sqrt(difference / size));
    }
    std::sort(errors.begin(), errors.end());
    return errors;
  };
  const std::vector<double> reference = errors_of(makers()[1], Phase::kPrefill);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    const std::vector<double> ours = errors_of(GetParam(), phase);
    // Median and upper quartile: single rows flip a router's near tie, in the reference as well.
    EXPECT_LE(ours[48], 1.25 * reference[48]);
    EXPECT_LE(ours[72], 1.5 * reference[72]);
  }
}

}  // namespace
}  // namespace moxie
