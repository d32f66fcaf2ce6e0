// What each check() says of each thing that can be wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/check.h"
#include "ops/check_views.h"
#include "ops/grouped_gemm.h"
#include "ops/moe.h"
#include "ops/prepack.h"
#include "ops/quantize_mxfp4.h"

namespace moxie {
namespace {

// One step away from arguments that are right, and what the sentence then has in it.
template <class Problem, class Args>
struct Wrong {
  void (*spoil)(Args&);
  const char* part;
};

template <class Problem, class Args>
std::string sentence(void (*spoil)(Args&)) {
  Problem problem;
  spoil(problem.args);
  try {
    check(problem.args);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

template <class Problem, class Args, size_t kCount>
void expect_sentences(const Wrong<Problem, Args> (&wrong)[kCount]) {
  EXPECT_EQ((sentence<Problem, Args>([](Args&) {})), "");
  for (const auto& [spoil, part] : wrong) {
    const std::string said = sentence<Problem, Args>(spoil);
    EXPECT_NE(said.find(part), std::string::npos)
        << "expected \"" << part << "\" in \"" << said << "\"";
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
}

alignas(16) uint8_t bytes[1 << 16];  // nothing here is read
template <class T>
T* somewhere(size_t offset = 0) {
  return reinterpret_cast<T*>(bytes + offset);
}
template <class T>
std::span<T> some(size_t count, size_t offset = 0) {
  return {somewhere<T>(offset), count};
}

// Rows of 8 logits for 3 rows, top 2; lists of experts 2 .. 6.
struct RouteProblem {
  RouteArgs args;
  RouteProblem() {
    args.logits = {somewhere<void>(), DType::kBF16, 3, 8, 8};
    args.experts_per_token = 2;
    args.expert_ids = some<int32_t>(6);
    args.weights = some<float>(6);
    args.first_expert = 2;
    args.experts = 5;
    args.lists = {some<int32_t>(6), some<int32_t>(6), some<int32_t>(6), some<int32_t>(6),
                  some<float>(6)};
  }
};

TEST(RouteArgs, OneSentenceForEachThingThatIsWrong) {
  using Args = RouteArgs;
  const Wrong<RouteProblem, Args> kWrong[] = {
      {[](Args& a) { a.logits.dtype = DType::kF16; }, "must be BF16 or F32, got F16"},
      {[](Args& a) { a.logits.data = nullptr; }, "logits of route is null"},
      {[](Args& a) { a.logits.stride = 7; }, "have 8 elements but lie only 7 apart"},
      {[](Args& a) { a.logits.rows = -1; }, "must be between 0 and 2147483647, got -1"},
      {[](Args& a) { a.experts_per_token = 0; }, "must be 1 to 8, the number of logits"},
      {[](Args& a) { a.experts_per_token = 9; }, "must be 1 to 8, the number of logits"},
      {[](Args& a) { a.expert_ids = a.expert_ids.first(5); }, "must have 6 elements, got 5"},
      {[](Args& a) { a.weights = {static_cast<float*>(nullptr), 6}; }, "weights of route is null"},
      {[](Args& a) { a.rounding = static_cast<WeightRounding>(9); }, "rounding of route is 9"},
      {[](Args& a) { a.lists.row_offsets = {}; }, "need row_offsets"},
      {[](Args& a) { a.lists.row_offsets = some<int32_t>(5); }, "row_offsets of route must have 6"},
      {[](Args& a) { a.lists.rows = some<int32_t>(5); }, "rows of route must have 6"},
      {[](Args& a) { a.lists.slots = some<int32_t>(5); }, "slots of route must have 6"},
      {[](Args& a) { a.lists.positions = some<int32_t>(5); }, "positions of route must have 6"},
      {[](Args& a) { a.lists.weights = some<float>(5); }, "sorted weights of route must have 6"},
      {[](Args& a) { a.first_expert = 4; },
       "experts 4 to 8 were asked for, but route has logits of 8"},
      {[](Args& a) { a.first_expert = -1; }, "first_expert of route must be between"},
  };
  expect_sentences(kWrong);
  EXPECT_EQ((sentence<RouteProblem, Args>([](Args& a) {
              a.logits = {nullptr, DType::kBF16, 0, 8, 8};
              a.expert_ids = {};
              a.weights = {};
              a.lists = {some<int32_t>(6), {}, {}, {}, {}};
            })),
            "");
}

struct RowListsProblem {
  RowListsArgs args;
  RowListsProblem() {
    args.rows = 3;
    args.experts_per_token = 2;
    args.expert_ids = some<const int32_t>(6);
    args.expert_weights = some<const float>(6);
    args.experts = 5;
    args.lists = {some<int32_t>(6), some<int32_t>(6), {}, {}, some<float>(6)};
  }
};

TEST(RowListsArgs, OneSentenceForEachThingThatIsWrong) {
  using Args = RowListsArgs;
  const Wrong<RowListsProblem, Args> kWrong[] = {
      {[](Args& a) { a.experts_per_token = 0; }, "must be at least 1, got 0"},
      {[](Args& a) { a.rows = int64_t{1} << 40; }, "rows of route must be between"},
      {[](Args& a) { a.rows = a.experts_per_token = 65536; }, "rows times experts_per_token"},
      {[](Args& a) { a.expert_ids = {}; }, "expert_ids of route must have 6 elements, got 0"},
      {[](Args& a) { a.expert_weights = {}; }, "weights of route must have 6 elements, got 0"},
      {[](Args& a) { a.experts = -2; }, "experts of route must be between"},
      {[](Args& a) { a.lists.row_offsets = {}; }, "row_offsets of route must have 6"},
  };
  expect_sentences(kWrong);
}

// 3 entries for 2 experts of [48, 64]; x has 5 rows, out 7.
struct GroupedGemmProblem {
  GroupedGemmArgs args;
  GroupedGemmProblem() {
    args.rows = 3;
    args.x = {somewhere<void>(), DType::kBF16, 5, 64, 64};
    args.weight = {somewhere<uint8_t>(4096), somewhere<uint8_t>(8192), 2, 48, 64};
    args.layout = Mxfp4Layout::kPrepacked;
    args.row_offsets = some<const int32_t>(3);
    args.gather = some<const int32_t>(3);
    args.scatter = some<const int32_t>(3);
    args.row_weights = some<const float>(3);
    args.out = {somewhere<void>(16384), DType::kBF16, 7, 48, 48};
  }
};

TEST(GroupedGemmArgs, OneSentenceForEachThingThatIsWrong) {
  using Args = GroupedGemmArgs;
  const Wrong<GroupedGemmProblem, Args> kWrong[] = {
      {[](Args& a) { a.weight.k = 80; }, "must have a multiple of 32 columns, got 48 x 80"},
      {[](Args& a) { a.weight.n = 40; }, "multiple of 16 rows; got 40"},
      {[](Args& a) { a.weight.codes = nullptr; },
       "codes or scales of weight of grouped_gemm are null"},
      {[](Args& a) { ++a.weight.scales; }, "must begin at multiples of 16 bytes"},
      {[](Args& a) {
         a.weight.experts = a.weight.n = 1 << 30;
         a.weight.k = 1 << 20;
       },
       "which no memory holds"},
      {[](Args& a) { a.layout = static_cast<Mxfp4Layout>(2); }, "layout of grouped_gemm is 2"},
      {[](Args& a) { a.x.dtype = DType::kF16; }, "x of grouped_gemm must be BF16, got F16"},
      {[](Args& a) { a.x.cols = 32; }, "x of grouped_gemm must be 5 x 64, got 5 x 32"},
      {[](Args& a) { a.x.data = nullptr; }, "x of grouped_gemm is null"},
      {[](Args& a) { a.x.data = somewhere<void>(8); }, "must begin at a multiple of 16 bytes"},
      {[](Args& a) { a.x.stride = 68; }, "multiple of 16 bytes apart, got 136"},
      {[](Args& a) { a.x.stride = int64_t{1} << 60; }, "which no memory holds"},
      {[](Args& a) { a.gather = {}; }, "x of grouped_gemm must be 3 x 64, got 5 x 64"},
      {[](Args& a) { a.scatter = {}; }, "out of grouped_gemm must be 3 x 48, got 7 x 48"},
      {[](Args& a) { a.scatter = a.scatter.first(2); }, "scatter of grouped_gemm must have 3"},
      {[](Args& a) { a.row_offsets = a.row_offsets.first(2); },
       "row_offsets of grouped_gemm must have 3"},
      {[](Args& a) { a.row_offsets = {static_cast<const int32_t*>(nullptr), 3}; },
       "row_offsets of grouped_gemm is null"},
      {[](Args& a) { a.out.data = nullptr; }, "out of grouped_gemm is null"},
      {[](Args& a) { a.out.data = const_cast<void*>(a.x.data); }, "must not overlap"},
      {[](Args& a) { a.activation = Args::Activation::kSwiglu; },
       "out of grouped_gemm must be 7 x 24"},
      {[](Args& a) {
         a.activation = Args::Activation::kSwiglu;
         a.out.cols = 24;
       },
       "only without SwiGLU"},
      {[](Args& a) {
         a.activation = Args::Activation::kSwiglu;
         a.layout = Mxfp4Layout::kCheckpoint;
         a.weight.n = 47;
       },
       "SwiGLU takes pairs of rows, but weight of grouped_gemm has 47"},
  };
  expect_sentences(kWrong);
}

// 3 rows, top 2 of 4 experts, hidden 64, inner 32.
struct MoeProblem {
  MoeArgs args;
  MoeProblem() {
    args.x = {somewhere<void>(), DType::kBF16, 3, 64, 64};
    args.experts_per_token = 2;
    args.expert_ids = some<const int32_t>(6);
    args.weights = some<const float>(6);
    args.gate_up = {somewhere<uint8_t>(4096), somewhere<uint8_t>(8192), 4, 64, 64};
    args.down = {somewhere<uint8_t>(4096), somewhere<uint8_t>(8192), 4, 64, 32};
    args.layout = Mxfp4Layout::kPrepacked;
    args.out = {somewhere<void>(16384), DType::kBF16, 3, 64, 64};
    args.residual = args.out;
  }
};
struct MoeFromLogits : MoeProblem {
  MoeFromLogits() {
    args.expert_ids = {};
    args.weights = {};
    args.logits = {somewhere<void>(), DType::kF32, 3, 4, 4};
  }
};

TEST(MoeArgs, OneSentenceForEachThingThatIsWrong) {
  using Args = MoeArgs;
  const Wrong<MoeProblem, Args> kWrong[] = {
      {[](Args& a) { a.gate_up.k = 48; },
       "gate_up of moe must have a multiple of 32 columns, got 64 x 48"},
      {[](Args& a) { a.down.k = 16; }, "down of moe must have a multiple of 32 columns"},
      {[](Args& a) { a.down.experts = 3; }, "have 4 and 3 experts"},
      {[](Args& a) { a.gate_up.n = 128; },
       "with down [64, 32] gate_up of moe must be [64, 64], got [128, 64]"},
      {[](Args& a) { a.down.n = 32; }, "gate_up of moe must be [64, 32], got [64, 64]"},
      {[](Args& a) { a.gate_up.codes = nullptr; }, "codes or scales of gate_up of moe are null"},
      {[](Args& a) { ++a.down.codes; }, "codes and scales of down of moe are prepacked"},
      {[](Args& a) { a.x.dtype = DType::kF16; }, "x of moe must be BF16 or F32, got F16"},
      {[](Args& a) { a.x.cols = 32; }, "x of moe must be 3 x 64, got 3 x 32"},
      {[](Args& a) { a.x.data = somewhere<void>(2); }, "x of moe must begin at a multiple of 16"},
      {[](Args& a) { a.out.dtype = DType::kF32; }, "out of moe must be BF16, got F32"},
      {[](Args& a) { a.out.rows = 2; }, "out of moe must be 3 x 64, got 2 x 64"},
      {[](Args& a) { a.out.data = const_cast<void*>(a.x.data); },
       "x and out of moe must not overlap"},
      {[](Args& a) { a.residual.cols = 63; }, "residual of moe must be 3 x 64, got 3 x 63"},
      {[](Args& a) { a.experts_per_token = 0; },
       "experts_per_token of moe must be at least 1, got 0"},
      {[](Args& a) { a.expert_ids = a.expert_ids.first(5); },
       "expert_ids of moe must have 6 elements, got 5"},
      {[](Args& a) { a.weights = {}; }, "weights of moe must have 6 elements, got 0"},
      {[](Args& a) { a.first_expert = -1; }, "first_expert of moe must be between"},
      {[](Args& a) { a.foreign = static_cast<ForeignExperts>(5); }, "foreign experts is 5"},
      {[](Args& a) { a.logits = {somewhere<void>(), DType::kF32, 3, 4, 4}; }, "not both"},
      {[](Args& a) { a.activations = static_cast<Activations>(2); }, "activations of moe are 2"},
      {[](Args& a) {
         a.activations = Activations::kFp8;
         a.x.dtype = a.out.dtype = a.residual.dtype = DType::kF32;
       },
       "fp8 activations of moe are made from x in BF16, got F32"},
      {[](Args& a) {
         a.activations = Activations::kFp8;
         a.alpha = 0;
       },
       "need a positive alpha and limit, which bound what SwiGLU gives; got 0 and 7"},
  };
  expect_sentences(kWrong);
  const Wrong<MoeFromLogits, Args> kWrongLogits[] = {
      {[](Args& a) { a.logits.dtype = DType::kI32; }, "logits of moe must be BF16 or F32, got I32"},
      {[](Args& a) { a.logits.rows = 2; }, "logits of moe must be 3 x 4, got 2 x 4"},
      {[](Args& a) { a.logits.stride = 3; }, "lie only 3 apart"},
      {[](Args& a) { a.experts_per_token = 5; }, "must be 1 to 4, the number of logits"},
      {[](Args& a) { a.first_expert = 1; }, "moe has experts 1 to 4, but logits of 4"},
      {[](Args& a) { a.logits.cols = a.logits.stride = 8; }, "must be told to skip the others"},
      {[](Args& a) { a.rounding = static_cast<WeightRounding>(7); }, "rounding of moe is 7"},
  };
  expect_sentences(kWrongLogits);
  const auto fine = [](void (*change)(Args&)) { return sentence<MoeProblem, Args>(change); };
  EXPECT_EQ(fine([](Args& a) {
              a.x.rows = a.out.rows = a.residual.rows = 0;
              a.x.data = a.out.data = nullptr;
              a.residual = {};
              a.expert_ids = {};
              a.weights = {};
            }),
            "");
  EXPECT_EQ(fine([](Args& a) {  // no alignment in the checkpoint's layout
              a.layout = Mxfp4Layout::kCheckpoint;
              a.x.data = somewhere<void>(2);
              ++a.down.codes;
            }),
            "");
}

TEST(MoeArgs, Fp8ActivationsAreForGpus) {
  MoeProblem problem;
  check_bf16_activations(problem.args);
  problem.args.activations = Activations::kFp8;
  check(problem.args);
  try {
    check_bf16_activations(problem.args);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_STREQ(error.what(), "moe has fp8 activations on Hopper GPUs only; ask for bf16 here");
  }
}

TEST(MoeArgs, SwigluTimesItsE4m3FactorStaysWithin448) {
  EXPECT_EQ(e4m3_factor(1.702f, 7), 8);
  for (const float alpha : {0.01f, 0.5f, 1.0f, 1.702f, 20.0f})
    for (const float limit : {0.1f, 1.0f, 7.0f, 30.0f}) {
      double largest = 0;
      for (double gate = -1000; gate <= limit; gate += 0.01)
        largest = std::max(largest, std::abs(gate / (1 + std::exp(-alpha * gate))) * (limit + 1.0));
      const double factor = e4m3_factor(alpha, limit);
      EXPECT_LE(largest * factor, 448 * (1 + 1e-4)) << alpha << " " << limit;
      // A power of two loses less than a factor of 2, sigmoid(alpha * limit) at most 2.
      EXPECT_GT(largest * factor, 448 / 4.01) << alpha << " " << limit;
      EXPECT_EQ(std::exp2(std::round(std::log2(factor))), factor);
    }
}

TEST(MoeArgs, ForeignExpertsAreRefusedUnlessTheyAreToBeSkipped) {
  MoeProblem problem;
  const auto verdict = [&](std::vector<int32_t> ids) {
    problem.args.expert_ids = ids;
    try {
      check_expert_ids(problem.args);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  problem.args.first_expert = 4;
  EXPECT_EQ(verdict({4, 5, 6, 7, 4, 4}), "");
  for (const int32_t id : {3, 8, -1, INT32_MIN, INT32_MAX})
    EXPECT_EQ(verdict({4, 5, id, 7, 4, 4}),
              "expert " + std::to_string(id) + " is not one of the experts 4 to 7 of moe");
  problem.args.foreign = ForeignExperts::kSkip;
  EXPECT_EQ(verdict({3, 8, -1, INT32_MIN, INT32_MAX, 0}), "");
}

struct PrepackProblem {
  PrepackArgs args{
      Mxfp4Layout::kPrepacked, somewhere<uint8_t>(), somewhere<uint8_t>(4096), 2, 48, 64};
};

TEST(PrepackArgs, OneSentenceForEachThingThatIsWrong) {
  using Args = PrepackArgs;
  const Wrong<PrepackProblem, Args> kWrong[] = {
      {[](Args& a) { a.k = 72; },
       "weight of prepack must have a multiple of 32 columns, got 48 x 72"},
      {[](Args& a) { a.n = 24; }, "multiple of 16 rows; got 24"},
      {[](Args& a) { a.codes = nullptr; }, "codes or scales of weight of prepack are null"},
      {[](Args& a) { a.scales += 4; }, "must begin at multiples of 16 bytes"},
      {[](Args& a) { a.experts = -1; }, "weight of prepack must be between 0 and"},
      {[](Args& a) {
         a.to = Mxfp4Layout::kCheckpoint;
         a.n = 24;
       },
       "weight of unpack is prepacked"},
      {[](Args& a) { a.to = static_cast<Mxfp4Layout>(3); }, "permute weights to is 3"},
  };
  expect_sentences(kWrong);
}

struct QuantizeProblem {
  QuantizeMxfp4Args args{{somewhere<void>(), DType::kBF16, 3, 64, 72},
                         somewhere<uint8_t>(4096),
                         somewhere<uint8_t>(8193),
                         mxfp4::ScaleRule::kEven};
};

TEST(QuantizeMxfp4Args, OneSentenceForEachThingThatIsWrong) {
  using Args = QuantizeMxfp4Args;
  const Wrong<QuantizeProblem, Args> kWrong[] = {
      {[](Args& a) { a.values.cols = 40; }, "multiple of 32 columns, got 3 x 40"},
      {[](Args& a) { a.values.dtype = DType::kF32; },
       "values of quantize_mxfp4 must be BF16, got F32"},
      {[](Args& a) { a.values.data = nullptr; }, "values of quantize_mxfp4 is null"},
      {[](Args& a) { a.values.data = somewhere<void>(8); }, "must begin at a multiple of 16 bytes"},
      {[](Args& a) { a.values.stride = 65; }, "multiple of 16 bytes apart, got 130"},
      {[](Args& a) { a.codes += 8; },
       "codes of quantize_mxfp4 must begin at a multiple of 16 bytes"},
      {[](Args& a) { a.scales = nullptr; }, "codes or scales of values of quantize_mxfp4 are null"},
      {[](Args& a) { a.rule = static_cast<mxfp4::ScaleRule>(3); },
       "scale rule of quantize_mxfp4 is 3"},
  };
  expect_sentences(kWrong);
}

struct DequantizeProblem {
  DequantizeMxfp4Args args{somewhere<uint8_t>(4096),
                           somewhere<uint8_t>(8193),
                           {somewhere<void>(), DType::kBF16, 3, 64, 64}};
};

TEST(DequantizeMxfp4Args, OneSentenceForEachThingThatIsWrong) {
  using Args = DequantizeMxfp4Args;
  const Wrong<DequantizeProblem, Args> kWrong[] = {
      {[](Args& a) { a.values.cols = 40; },
       "values of dequantize_mxfp4 must have a multiple of 32"},
      {[](Args& a) { a.values.stride = 32; }, "lie only 32 apart"},
      {[](Args& a) { a.codes = nullptr; },
       "codes or scales of values of dequantize_mxfp4 are null"},
  };
  expect_sentences(kWrong);
}

TEST(Overlap, OfRangesAndOfColumnsOfOneMatrix) {
  const auto view = [](size_t offset, int64_t rows, int64_t cols, int64_t stride) {
    return ConstRows(somewhere<void>(offset), DType::kBF16, rows, cols, stride);
  };
  EXPECT_FALSE(overlap(view(0, 4, 8, 8), view(64, 4, 8, 8)));
  EXPECT_TRUE(overlap(view(0, 4, 8, 8), view(62, 4, 8, 8)));
  EXPECT_TRUE(overlap(view(62, 4, 8, 8), view(0, 4, 8, 8)));
  EXPECT_FALSE(overlap(view(0, 0, 8, 8), view(0, 4, 8, 8)));
  // Columns 0 .. 7 and 8 .. 15 of rows of 24: bytes 0 .. 15 and 16 .. 31 of every 48.
  EXPECT_FALSE(overlap(view(0, 4, 8, 24), view(16, 4, 8, 24)));
  EXPECT_FALSE(overlap(view(16, 4, 8, 24), view(0, 4, 8, 24)));
  EXPECT_FALSE(overlap(view(16 + 48, 4, 8, 24), view(0, 4, 8, 24)));
  EXPECT_TRUE(overlap(view(14, 4, 8, 24), view(0, 4, 8, 24)));
  EXPECT_TRUE(overlap(view(0, 4, 8, 24), view(14, 4, 8, 24)));
  EXPECT_TRUE(overlap(view(34, 4, 8, 24), view(0, 4, 8, 24)));  // its end in the next row
  EXPECT_TRUE(overlap(view(0, 4, 8, 24), view(34, 4, 8, 24)));
  EXPECT_TRUE(overlap(view(0, 4, 8, 24), view(16, 4, 8, 16)));  // in doubt
}

}  // namespace
}  // namespace moxie
