#include "cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu/attention_tile.h"
#include "cpu/test_support.h"
#include "cpu/trapped_amx.h"
#include "moxie/error.h"

namespace moxie::cpu {
namespace {

// What is tested: the kernels of an instruction set, or AMX's on emulated tiles.
struct Target {
  Isa isa = Isa::kScalar;
  bool emulated_tiles = false;
  std::string label() const { return emulated_tiles ? "amx_emulated" : name(isa); }
};

std::vector<Target> targets() {
  std::vector<Target> all = {{Isa::kScalar, true}};
  for (const Isa isa : usable_or_trapped_isas()) all.push_back({isa, false});
  return all;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int64_t num_q_heads = 64, num_kv_heads = 8, head_dim = 64, window = 0;
};

// A sequence whose keys and values are known for every position. `cache(capacity, end)` is what a
// ring of that capacity holds once the positions before `end` are stored.
struct Sequence {
  Sequence(const Shape& s, int64_t length, uint64_t seed) : shape(s), num_positions(length) {
    Random random(seed);
    const size_t kv = static_cast<size_t>(length * s.num_kv_heads * s.head_dim);
    const size_t qs = static_cast<size_t>(length * s.num_q_heads * s.head_dim);
    for (size_t i = 0; i < kv; ++i) k.push_back(to_bf16(random.normal()));
    for (size_t i = 0; i < kv; ++i) v.push_back(to_bf16(random.normal()));
    for (size_t i = 0; i < qs; ++i) q.push_back(to_bf16(2 * random.normal()));
  }

  const bf16* row(const std::vector<bf16>& of, int64_t position, int64_t head,
                  int64_t heads) const {
    return of.data() + (position * heads + head) * shape.head_dim;
  }

  // Slots of [num_kv_heads, capacity, head_dim]; what was never stored is NaN.
  std::vector<bf16> cache(const std::vector<bf16>& of, int64_t capacity, int64_t end) const {
    std::vector<bf16> slots(static_cast<size_t>(shape.num_kv_heads * capacity * shape.head_dim),
                            to_bf16(kNan));
    for (int64_t head = 0; head < shape.num_kv_heads; ++head) {
      for (int64_t p = 0; p < end; ++p) {
        const bf16* from = row(of, p, head, shape.num_kv_heads);
        std::copy(from, from + shape.head_dim,
                  slots.begin() + (head * capacity + p % capacity) * shape.head_dim);
      }
    }
    return slots;
  }

  Shape shape;
  int64_t num_positions;
  std::vector<bf16> q, k, v;  // [position, head, head_dim]
};

struct Chunk {
  const Sequence* sequence;
  int64_t start, count, capacity;
};

// Rows of all chunks, one after the other: [rows, num_q_heads * head_dim].
std::vector<bf16> run(const std::vector<Chunk>& chunks, const std::vector<float>& sinks,
                      Phase phase, const Target& target, int num_threads = 2,
                      int64_t max_context = 0) {
  const Shape& shape = chunks.front().sequence->shape;
  const int64_t cols = shape.num_q_heads * shape.head_dim, stride = cols + 24;
  std::vector<std::vector<bf16>> caches;
  std::vector<SequenceRows> sequences;
  std::vector<bf16> q;
  int64_t rows = 0;
  for (const Chunk& chunk : chunks) {
    const Sequence& s = *chunk.sequence;
    caches.push_back(s.cache(s.k, chunk.capacity, chunk.start + chunk.count));
    caches.push_back(s.cache(s.v, chunk.capacity, chunk.start + chunk.count));
    sequences.push_back({{nullptr, nullptr, chunk.capacity}, chunk.start, rows, chunk.count});
    for (int64_t i = 0; i < chunk.count; ++i) {
      const bf16* from = s.q.data() + (chunk.start + i) * cols;
      q.insert(q.end(), from, from + cols);
      q.insert(q.end(), static_cast<size_t>(stride - cols), to_bf16(kNan));
    }
    rows += chunk.count;
    max_context = std::max(max_context, chunk.start + chunk.count);
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].kv.k = caches[2 * i].data();
    sequences[i].kv.v = caches[2 * i + 1].data();
  }
  std::vector<bf16> out(static_cast<size_t>(rows * cols));

  BackendLimits limits;
  limits.max_rows = rows;
  limits.num_q_heads = shape.num_q_heads;
  limits.num_kv_heads = shape.num_kv_heads;
  limits.head_dim = shape.head_dim;
  limits.max_context = max_context;
  TestContext context(target.isa, num_threads, limits,
                      attention_scratch_bytes(limits, target.isa, num_threads));
  AttentionArgs args;
  args.phase = phase;
  args.q = ConstRows(q.data(), DType::kBF16, rows, cols, stride);
  args.num_q_heads = shape.num_q_heads;
  args.num_kv_heads = shape.num_kv_heads;
  args.head_dim = shape.head_dim;
  args.sinks = sinks.data();
  args.sm_scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  args.window = shape.window;
  args.sequences = sequences;
  args.out = Rows{out.data(), DType::kBF16, rows, cols, cols};
  if (target.emulated_tiles && shape.head_dim % 32 == 0)
    attention_with(attention_kernels_amx_emulated(), args, context.get());
  else
    attention(args, context.get());
  return out;
}

// Holds one chunk's rows to the contract's bound, against float64.
void expect_within_bound(const Chunk& chunk, const std::vector<float>& sinks, const bf16* got) {
  const Sequence& s = *chunk.sequence;
  const Shape& shape = s.shape;
  const int64_t group = shape.num_q_heads / shape.num_kv_heads, dim = shape.head_dim;
  const double scale = static_cast<double>(1 / std::sqrt(static_cast<float>(dim)));
  std::vector<double> scores, exact(static_cast<size_t>(dim));
  for (int64_t i = 0; i < chunk.count; ++i) {
    const int64_t position = chunk.start + i;
    const int64_t begin = shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    for (int64_t h = 0; h < shape.num_q_heads; ++h) {
      const bf16* q = s.row(s.q, position, h, shape.num_q_heads);
      const double sink = static_cast<double>(sinks[static_cast<size_t>(h)]);
      double maximum = sink, largest_score = 0, largest_value = 0;
      scores.clear();
      for (int64_t j = begin; j <= position; ++j) {
        const bf16* k = s.row(s.k, j, h / group, shape.num_kv_heads);
        double dot = 0;
        for (int64_t d = 0; d < dim; ++d)
          dot += static_cast<double>(to_float(q[d])) * static_cast<double>(to_float(k[d]));
        scores.push_back(dot * scale);
        maximum = std::max(maximum, scores.back());
        largest_score = std::max(largest_score, std::abs(scores.back()));
      }
      double total = std::exp(sink - maximum);
      std::fill(exact.begin(), exact.end(), 0.0);
      for (int64_t j = begin; j <= position; ++j) {
        const double weight = std::exp(scores[static_cast<size_t>(j - begin)] - maximum);
        const bf16* v = s.row(s.v, j, h / group, shape.num_kv_heads);
        total += weight;
        for (int64_t d = 0; d < dim; ++d) {
          const double value = static_cast<double>(to_float(v[d]));
          exact[static_cast<size_t>(d)] += weight * value;
          largest_value = std::max(largest_value, std::abs(value));
        }
      }
      const double keys = static_cast<double>(position - begin + 1);
      const double sums = (static_cast<double>(dim) + keys + 16) * 0x1p-22 *
                          std::max(1.0, largest_score) * largest_value;
      for (int64_t d = 0; d < dim; ++d) {
        const double want = exact[static_cast<size_t>(d)] / total;
        const double value =
            static_cast<double>(to_float(got[(i * shape.num_q_heads + h) * dim + d]));
        ASSERT_NEAR(value, want, half_bf16_ulp(want) + sums)
            << "position " << position << " head " << h << " dimension " << d;
      }
    }
  }
}

std::vector<float> some_sinks(int64_t count) {
  Random random(99);
  std::vector<float> sinks;
  for (int64_t i = 0; i < count; ++i) sinks.push_back(2 * random.normal());
  return sinks;
}

int64_t ring(int64_t window, int64_t chunk, int64_t end) {
  return window > 0 ? window - 1 + chunk : end;
}

struct Case {
  std::string name;
  Shape shape;
  int64_t start, count;
};

class AttentionTest : public testing::TestWithParam<std::tuple<Target, Phase, Case>> {};

TEST_P(AttentionTest, StaysWithinItsErrorBound) {
  const auto& [target, phase, c] = GetParam();
  const Sequence sequence(c.shape, c.start + c.count, 7);
  const std::vector<float> sinks = some_sinks(c.shape.num_q_heads);
  const Chunk chunk{&sequence, c.start, c.count, ring(c.shape.window, c.count, c.start + c.count)};
  const std::vector<bf16> got = run({chunk}, sinks, phase, target);
  expect_within_bound(chunk, sinks, got.data());
}

std::vector<Case> cases() {
  const Shape real{16, 2, 64, 0}, window{16, 2, 64, 128};
  return {{"FirstToken", real, 0, 1},
          {"TwoTokens", real, 0, 2},
          {"OneUnderABlock", real, 0, 63},
          {"ABlock", real, 0, 64},
          {"OneOverABlock", real, 0, 65},
          {"TilesAndBlocks", real, 0, 200},
          {"LateChunk", real, 190, 17},
          {"SplitDecode", real, 2040, 3},
          {"WindowNotFull", window, 0, 100},
          {"WindowEdge", window, 120, 20},
          {"WindowRing", window, 777, 40},
          {"WindowOneToken", window, 1000, 1},
          {"OddWindow", {8, 1, 64, 37}, 50, 90},
          {"WideWindowSplit", {8, 1, 64, 1500}, 3000, 2},
          {"OneHead", {1, 1, 64, 0}, 70, 20},
          {"SixHeadsAGroup", {12, 2, 64, 0}, 70, 20},
          {"SevenHeadsAGroup", {7, 1, 64, 24}, 70, 20},
          {"HeadsOf16", {4, 2, 16, 8}, 30, 40},
          {"HeadsOf32", {8, 2, 32, 20}, 30, 40},
          {"HeadsOf128", {4, 1, 128, 0}, 60, 10},
          {"HeadsOf24", {4, 1, 24, 0}, 60, 10},
          {"HeadsOf6", {4, 2, 6, 9}, 60, 10},
          {"HeadsOf2", {3, 3, 2, 0}, 60, 10}};
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         testing::Combine(testing::ValuesIn(targets()),
                                          testing::Values(Phase::kPrefill, Phase::kDecode),
                                          testing::ValuesIn(cases())),
                         [](const auto& param_info) {
                           return std::get<0>(param_info.param).label() +
                                  (std::get<1>(param_info.param) == Phase::kPrefill ? "_prefill_"
                                                                                    : "_decode_") +
                                  std::get<2>(param_info.param).name;
                         });

class AttentionIsaTest : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Isas, AttentionIsaTest, testing::ValuesIn(targets()),
                         [](const auto& param_info) { return param_info.param.label(); });

// Bits of rows [first, first + count) of a matrix.
std::vector<bf16> rows_of(const std::vector<bf16>& out, const Shape& shape, int64_t first,
                          int64_t count) {
  const int64_t cols = shape.num_q_heads * shape.head_dim;
  return {out.begin() + first * cols, out.begin() + (first + count) * cols};
}

TEST_P(AttentionIsaTest, ChunksDoNotChangeABit) {
  for (const int64_t window : {0, 40}) {
    const Shape shape{8, 1, 64, window};
    const Sequence sequence(shape, 200, 3);
    const std::vector<float> sinks = some_sinks(8);
    const std::vector<bf16> whole =
        run({{&sequence, 0, 200, 200}}, sinks, Phase::kPrefill, GetParam());
    for (const int64_t size : {1, 7, 64, 129}) {
      if (size == 1 && GetParam().emulated_tiles) continue;  // slow, and no tile is fuller for it
      for (int64_t start = 0; start < 200; start += size) {
        const int64_t count = std::min(size, 200 - start);
        const std::vector<bf16> part =
            run({{&sequence, start, count, ring(window, count, start + count)}}, sinks,
                Phase::kPrefill, GetParam());
        ASSERT_EQ(part, rows_of(whole, shape, start, count))
            << "chunk of " << size << " at " << start << ", window " << window;
      }
    }
  }
}

TEST_P(AttentionIsaTest, BatchAndThreadsDoNotChangeABit) {
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const int64_t window : {0, 128}) {
      const Shape shape{16, 2, 64, window};
      const std::vector<float> sinks = some_sinks(16);
      const Sequence a(shape, 1700, 1), b(shape, 90, 2), c(shape, 1, 3);
      const std::vector<Chunk> chunks = {{&a, 1697, 3, ring(window, 3, 1700)},
                                         {&b, 80, 10, ring(window, 10, 90)},
                                         {&b, 80, 0, ring(window, 10, 90)},
                                         {&c, 0, 1, ring(window, 1, 1)}};
      const std::vector<bf16> together = run(chunks, sinks, phase, GetParam(), 1);
      ASSERT_EQ(together, run(chunks, sinks, phase, GetParam(), 3));
      int64_t row = 0;
      for (const Chunk& chunk : chunks) {
        if (chunk.count > 0) {
          ASSERT_EQ(run({chunk}, sinks, phase, GetParam()),
                    rows_of(together, shape, row, chunk.count));
        }
        row += chunk.count;
      }
    }
  }
}

// Decode takes its rows in groups when their partial sums do not fit the scratch together.
TEST_P(AttentionIsaTest, ManyLongDecodeRowsShareTheScratch) {
  const Shape shape{8, 1, 64, 0};
  const std::vector<float> sinks = some_sinks(8);
  const Sequence sequence(shape, 2100, 5);
  const std::vector<bf16> together =
      run({{&sequence, 2000, 100, 2100}}, sinks, Phase::kDecode, GetParam());
  for (const int64_t position : {2000, 2047, 2048, 2099}) {
    ASSERT_EQ(run({{&sequence, position, 1, 2100}}, sinks, Phase::kDecode, GetParam()),
              rows_of(together, shape, position - 2000, 1));
  }
}

TEST_P(AttentionIsaTest, LargeSinksTakeAllAndSmallOnesNothing) {
  const Shape shape{8, 1, 64, 0};
  const Sequence sequence(shape, 1100, 11);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const int64_t length : {1, 70, 1100}) {
      const Chunk chunk{&sequence, length - 1, 1, length};
      for (const float sink : {1e30f, 3e38f, kInfinity}) {
        for (const bf16 value : run({chunk}, std::vector<float>(8, sink), phase, GetParam()))
          ASSERT_EQ(to_float(value), 0.0f) << sink;
      }
      for (const float sink : {-100.0f, -1e30f, -3e38f, -kInfinity}) {
        const std::vector<float> sinks(8, sink);
        expect_within_bound(chunk, sinks, run({chunk}, sinks, phase, GetParam()).data());
      }
    }
  }
}

TEST_P(AttentionIsaTest, LargeScoresOfEitherSignStayWithinTheBound) {
  const Shape shape{8, 1, 64, 0};
  Sequence sequence(shape, 130, 12);
  for (bf16& x : sequence.q) x = to_bf16(1e10f * to_float(x));
  for (int64_t p = 0; p < 130; ++p) {
    const float sign = p % 3 == 0 ? 1e10f : -1e12f;
    for (int64_t d = 0; d < 64; ++d) {
      bf16& k = sequence.k[static_cast<size_t>(p * 64 + d)];
      k = to_bf16(sign * to_float(k));
    }
  }
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    const std::vector<bf16> got = run({{&sequence, 0, 130, 130}}, some_sinks(8), phase, GetParam());
    for (const bf16 value : got) ASSERT_TRUE(std::isfinite(to_float(value)));
  }
}

// A NaN or an infinity reaches the rows that see it, and no other.
TEST_P(AttentionIsaTest, NanReachesOnlyTheRowsThatSeeIt) {
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const float poison : {kNan, kInfinity}) {
      for (const bool in_keys : {true, false}) {
        const Shape shape{8, 1, 64, 20};
        const Sequence clean(shape, 150, 21);
        Sequence sequence = clean;
        const int64_t bad = 70;
        auto& slots = in_keys ? sequence.k : sequence.v;
        for (int64_t d = 0; d < 64; ++d) slots[static_cast<size_t>(bad * 64 + d)] = to_bf16(poison);
        const std::vector<float> sinks = some_sinks(8);
        const std::vector<bf16> got = run({{&sequence, 0, 150, 150}}, sinks, phase, GetParam());
        const std::vector<bf16> want = run({{&clean, 0, 150, 150}}, sinks, phase, GetParam());
        for (int64_t p = 0; p < 150; ++p) {
          const std::vector<bf16> row = rows_of(got, shape, p, 1);
          if (p < bad || p >= bad + shape.window) {
            ASSERT_EQ(row, rows_of(want, shape, p, 1)) << "position " << p;
          } else if (std::isnan(poison)) {
            for (const bf16 value : row) ASSERT_TRUE(std::isnan(to_float(value))) << p;
          }
        }
      }
    }
  }
}

TEST_P(AttentionIsaTest, NoRowsIsNoWork) {
  const Shape shape{8, 1, 64, 0};
  const Sequence sequence(shape, 10, 1);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode})
    EXPECT_TRUE(run({{&sequence, 5, 0, 10}}, some_sinks(8), phase, GetParam()).empty());
}

TEST_P(AttentionIsaTest, ACacheThatIsTooSmallIsRefused) {
  const Shape shape{8, 1, 64, 16};
  const Sequence sequence(shape, 100, 1);
  EXPECT_THROW(run({{&sequence, 50, 10, 24}}, some_sinks(8), Phase::kPrefill, GetParam()), Error);
  EXPECT_NO_THROW(run({{&sequence, 50, 10, 25}}, some_sinks(8), Phase::kPrefill, GetParam()));
}

}  // namespace
}  // namespace moxie::cpu
