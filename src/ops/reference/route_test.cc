#include "ops/reference/route.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "ops/reference/random.h"

namespace moxie {
namespace {

constexpr int32_t kPoison = 77;

struct Lists {
  std::vector<int32_t> row_offsets, rows, slots, positions;
  std::vector<float> weights;

  Lists(size_t experts, size_t num_slots)
      : row_offsets(experts + 1, kPoison),
        rows(num_slots, kPoison),
        slots(num_slots, kPoison),
        positions(num_slots, kPoison),
        weights(num_slots, kPoison) {}
  RowLists view() { return {row_offsets, rows, slots, positions, weights}; }
};

// The definition, expert after expert, against what the oracle wrote.
void expect_lists_of(const std::vector<int32_t>& ids, const std::vector<float>& weights,
                     int64_t chosen, int64_t first_expert, int64_t experts) {
  Lists got(static_cast<size_t>(experts), ids.size());
  reference_row_lists({.rows = static_cast<int64_t>(ids.size()) / chosen,
                       .experts_per_token = chosen,
                       .expert_ids = ids,
                       .expert_weights = weights,
                       .first_expert = first_expert,
                       .experts = experts,
                       .lists = got.view()});
  std::vector<bool> listed(ids.size());
  size_t entry = 0;
  for (int64_t e = 0; e < experts; ++e) {
    ASSERT_EQ(got.row_offsets[static_cast<size_t>(e)], static_cast<int32_t>(entry));
    for (size_t slot = 0; slot < ids.size(); ++slot) {
      if (ids[slot] != first_expert + e) continue;
      listed[slot] = true;
      ASSERT_EQ(got.slots[entry], static_cast<int32_t>(slot));
      ASSERT_EQ(got.rows[entry], static_cast<int32_t>(slot) / static_cast<int32_t>(chosen));
      ASSERT_EQ(got.weights[entry], weights[slot]);
      ASSERT_EQ(got.positions[slot], static_cast<int32_t>(entry));
      ++entry;
    }
  }
  ASSERT_EQ(got.row_offsets.back(), static_cast<int32_t>(entry));
  for (size_t slot = 0; slot < ids.size(); ++slot)
    ASSERT_EQ(got.positions[slot] == -1, !listed[slot]) << slot;
  for (; entry < ids.size(); ++entry) {
    ASSERT_EQ(got.slots[entry], kPoison);
    ASSERT_EQ(got.rows[entry], kPoison);
    ASSERT_EQ(got.weights[entry], static_cast<float>(kPoison));
  }
}

TEST(ReferenceRowLists, AreSortedByExpertThenSlotAndSkipWhatIsNotLocal) {
  for (const int64_t rows : {0, 1, 2, 33, 200}) {
    for (const int64_t chosen : {1, 4}) {
      const auto slots = static_cast<size_t>(rows * chosen);
      std::vector<int32_t> ids(slots);
      std::vector<float> weights(slots);
      fill_normal(std::span(weights), 3);
      for (size_t i = 0; i < slots; ++i) ids[i] = static_cast<int32_t>(random_bits(1, i) % 8);
      expect_lists_of(ids, weights, chosen, 0, 8);
      expect_lists_of(ids, weights, chosen, 3, 2);
      expect_lists_of(ids, weights, chosen, 8, 4);  // nobody
      expect_lists_of(ids, weights, chosen, 0, 0);
      // Sentinels of every kind.
      for (size_t i = 0; i < slots; i += 3)
        ids[i] = i % 2 == 0 ? -1 : i % 5 == 0 ? INT32_MIN : INT32_MAX;
      expect_lists_of(ids, weights, chosen, 0, 8);
      expect_lists_of(ids, weights, chosen, 2, 3);
      std::fill(ids.begin(), ids.end(), 5);  // everybody
      expect_lists_of(ids, weights, chosen, 0, 8);
      std::fill(ids.begin(), ids.end(), -1);
      expect_lists_of(ids, weights, chosen, 0, 8);
    }
  }
}

TEST(ReferenceRowLists, AListThatIsNotWantedIsNotWritten) {
  const std::vector<int32_t> ids = {1, 0, 1};
  std::vector<int32_t> row_offsets(3, kPoison);
  reference_row_lists({.rows = 3,
                       .experts_per_token = 1,
                       .expert_ids = ids,
                       .expert_weights = {},
                       .experts = 2,
                       .lists = {row_offsets, {}, {}, {}, {}}});
  EXPECT_EQ(row_offsets, (std::vector<int32_t>{0, 1, 3}));
}

TEST(ReferenceRoute, ChoosesTheLargestAndListsThem) {
  constexpr int64_t kRows = 50, kExperts = 12, kChosen = 4;
  std::vector<float> logits(kRows * kExperts);
  for (size_t i = 0; i < logits.size(); ++i)  // few values, so that ties are many
    logits[i] = static_cast<float>(random_bits(9, i) % 5);
  std::vector<int32_t> ids(kRows * kChosen);
  std::vector<float> weights(ids.size());
  Lists lists(6, ids.size());
  const RouteArgs args = {.logits = {logits.data(), DType::kF32, kRows, kExperts, kExperts},
                          .experts_per_token = kChosen,
                          .expert_ids = ids,
                          .weights = weights,
                          .first_expert = 6,
                          .experts = 6,
                          .lists = lists.view()};
  check(args);
  reference_route(args);
  for (int64_t row = 0; row < kRows; ++row) {
    const float* l = logits.data() + row * kExperts;
    std::vector<int32_t> order(kExperts);
    for (int32_t e = 0; e < kExperts; ++e) order[static_cast<size_t>(e)] = e;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return l[a] > l[b]; });
    double total = 0;
    for (size_t i = 0; i < kChosen; ++i) total += std::exp(double{l[order[i]]});
    for (size_t i = 0; i < kChosen; ++i) {
      const size_t slot = static_cast<size_t>(row * kChosen) + i;
      EXPECT_EQ(ids[slot], order[i]) << row;
      EXPECT_NEAR(weights[slot], std::exp(double{l[order[i]]}) / total, 0x1p-24);
    }
  }
  int32_t local = 0;
  for (const int32_t id : ids) local += id >= 6 ? 1 : 0;
  EXPECT_EQ(lists.row_offsets.back(), local);
}

TEST(ReferenceRoute, RoundsWeightsToTheLogitsUnlessTold) {
  const std::vector<bf16> logits = {to_bf16(1), to_bf16(2), to_bf16(0.25f)};
  std::vector<int32_t> ids(3);
  std::vector<float> weights(3);
  RouteArgs args = {.logits = {logits.data(), DType::kBF16, 1, 3, 3},
                    .experts_per_token = 3,
                    .expert_ids = ids,
                    .weights = weights,
                    .lists = {}};
  reference_route(args);
  for (const float w : weights) EXPECT_EQ(w, round_to_bf16(w));
  args.rounding = WeightRounding::kNone;
  reference_route(args);
  const double total = 1 + std::exp(-1.0) + std::exp(-1.75);
  EXPECT_FLOAT_EQ(weights[1], static_cast<float>(std::exp(-1.0) / total));
  EXPECT_NE(weights[1], round_to_bf16(weights[1]));
}

}  // namespace
}  // namespace moxie
