// The C functions through libmoxie.so: how structs are read, and what is said of each bad input.
// Nothing here needs a GPU, as checks come before everything else.
#include "moxie/moxie.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Answer {
  int32_t status;
  std::string sentence;
};
std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  return out << answer.status << " \"" << answer.sentence << '"';
}
Answer answer_of(int32_t status) { return {status, status == MOXIE_OK ? "" : moxie_last_error()}; }
bool has(const Answer& answer, const char* part) {
  return answer.sentence.find(part) != std::string::npos;
}

alignas(256) uint8_t memory[1 << 16];  // of the host: nothing here is read
template <class T>
T* at(size_t offset) {
  return reinterpret_cast<T*>(memory + offset);
}

// Where nothing of `memory` lies.
void* elsewhere() { return reinterpret_cast<void*>(uintptr_t{1} << 40); }

// What comes after all checks: no GPU, no CUDA, or pointers of the host.
bool passed_the_checks(const Answer& answer) {
  return (answer.status == MOXIE_UNSUPPORTED && has(answer, "needs a Hopper GPU")) ||
         (answer.status == MOXIE_INVALID_ARGUMENT && has(answer, "lies in the host's memory"));
}

template <class T>
T zeroed() {
  T value;
  std::memset(&value, 0, sizeof value);
  value.struct_size = sizeof value;
  return value;
}

moxie_prepack_args prepack_args() {
  auto args = zeroed<moxie_prepack_args>();
  args.experts = 2, args.n = 48, args.k = 64;
  args.codes = at<uint8_t>(0), args.scales = at<uint8_t>(4096);
  return args;
}

moxie_moe_args moe_args() {
  auto args = zeroed<moxie_moe_args>();
  args.layout = MOXIE_LAYOUT_PREPACKED;
  args.rows = 3, args.hidden_size = 64, args.intermediate_size = 32;
  args.experts = 4, args.first_expert = 2, args.experts_per_token = 2;
  args.x = at<void>(0), args.out = at<void>(1024), args.residual = at<void>(1024);
  args.expert_ids = at<int32_t>(4096), args.expert_weights = at<float>(4128);
  args.gate_up_codes = at<uint8_t>(8192), args.gate_up_scales = at<uint8_t>(24576);
  args.down_codes = at<uint8_t>(16384), args.down_scales = at<uint8_t>(28672);
  args.gate_up_bias = at<float>(32768), args.down_bias = at<float>(40960);
  args.workspace = at<void>(49152), args.workspace_bytes = 1 << 14;
  return args;
}
moxie_moe_args moe_args_with_logits() {
  moxie_moe_args args = moe_args();
  args.expert_ids = nullptr, args.expert_weights = nullptr;
  args.logits = at<void>(4096), args.num_logits = 8;
  return args;
}

moxie_grouped_gemm_args grouped_gemm_args() {
  auto args = zeroed<moxie_grouped_gemm_args>();
  args.layout = MOXIE_LAYOUT_PREPACKED;
  args.rows = 5, args.experts = 3, args.n = 48, args.k = 64;
  args.x = at<void>(0), args.x_rows = 9;
  args.codes = at<uint8_t>(8192), args.scales = at<uint8_t>(16384), args.bias = at<float>(20480);
  args.row_offsets = at<int32_t>(4096), args.gather = at<int32_t>(4128);
  args.scatter = at<int32_t>(4160), args.row_weights = at<float>(4192);
  args.out = at<void>(32768), args.out_rows = 7;
  args.workspace = at<void>(49152), args.workspace_bytes = 1 << 14;
  return args;
}

moxie_route_args route_args() {
  auto args = zeroed<moxie_route_args>();
  args.logits_dtype = MOXIE_DTYPE_F32;
  args.rows = 3, args.experts_per_token = 2;
  args.logits = at<void>(0), args.num_logits = 8;
  args.expert_ids = at<int32_t>(1024), args.expert_weights = at<float>(2048);
  args.first_expert = 4, args.experts = 4;
  args.row_offsets = at<int32_t>(3072), args.list_rows = at<int32_t>(4096);
  args.list_slots = at<int32_t>(5120), args.positions = at<int32_t>(6144);
  args.list_weights = at<float>(7168);
  args.workspace = at<void>(49152), args.workspace_bytes = 1 << 14;
  return args;
}
moxie_route_args list_args() {
  moxie_route_args args = route_args();
  args.logits = nullptr;
  return args;
}

moxie_mxfp4_linear_args linear_args() {
  auto args = zeroed<moxie_mxfp4_linear_args>();
  args.layout = MOXIE_LAYOUT_PREPACKED;
  args.rows = 3, args.n = 48, args.k = 64;
  args.x = at<void>(0), args.out = at<void>(1024), args.residual = at<void>(1024);
  args.codes = at<uint8_t>(8192), args.scales = at<uint8_t>(16384), args.bias = at<float>(20480);
  args.workspace = at<void>(49152), args.workspace_bytes = 1 << 14;
  return args;
}

moxie_quantize_mxfp4_args quantize_args() {
  auto args = zeroed<moxie_quantize_mxfp4_args>();
  args.rows = 3, args.k = 64;
  args.values = at<void>(0), args.codes = at<uint8_t>(8192), args.scales = at<uint8_t>(16384);
  return args;
}

moxie_dequantize_mxfp4_args dequantize_args() {
  auto args = zeroed<moxie_dequantize_mxfp4_args>();
  args.rows = 3, args.k = 64;
  args.values = at<void>(0), args.codes = at<uint8_t>(8192), args.scales = at<uint8_t>(16384);
  return args;
}

// One step away from arguments that are right, the status, and a part of the sentence.
template <class Args>
struct Wrong {
  void (*spoil)(Args&);
  int32_t status;
  const char* part;
};

template <class Args, class Function>
void expect_refusals(Args (*right)(), Function function, const std::vector<Wrong<Args>>& cases) {
  const Args fine = right();
  EXPECT_TRUE(passed_the_checks(answer_of(function(&fine)))) << answer_of(function(&fine));
  for (const Wrong<Args>& wrong : cases) {
    Args args = right();
    wrong.spoil(args);
    const Answer answer = answer_of(function(&args));
    EXPECT_EQ(answer.status, wrong.status) << answer << " for " << wrong.part;
    EXPECT_TRUE(has(answer, wrong.part)) << answer << "\nexpected: " << wrong.part;
    EXPECT_EQ(answer.sentence.find('\n'), std::string::npos) << answer;
  }
  const Answer null = answer_of(function(nullptr));
  EXPECT_EQ(null.status, MOXIE_INVALID_ARGUMENT);
  EXPECT_TRUE(has(null, "is null")) << null;
}

constexpr int32_t kInvalid = MOXIE_INVALID_ARGUMENT, kNo = MOXIE_UNSUPPORTED;

// --- structs ---

TEST(StructSize, AShorterStructHasZerosForWhatItLacksAndIsNotReadFurther) {
  moxie_prepack_args args = prepack_args();
  args.struct_size = offsetof(moxie_prepack_args, n);
  args.n = -5, args.k = 7;  // behind the end
  args.codes = nullptr;
  EXPECT_TRUE(passed_the_checks(answer_of(moxie_prepack(&args, nullptr))))
      << answer_of(moxie_prepack(&args, nullptr));
  args.layout = MOXIE_LAYOUT_PREPACKED;  // within
  EXPECT_TRUE(has(answer_of(moxie_prepack(&args, nullptr)), "prepacked already"));
  args.struct_size = offsetof(moxie_prepack_args, k);
  args.layout = MOXIE_LAYOUT_CHECKPOINT;
  EXPECT_TRUE(has(answer_of(moxie_prepack(&args, nullptr)), "must be between 0 and"));
}

TEST(StructSize, ALongerStructIsTakenIfItsTailIsZeroAndOtherwiseRefused) {
  struct Newer {
    moxie_prepack_args known;
    uint64_t tail[3];
  } args{prepack_args(), {}};
  args.known.struct_size = sizeof args;
  const auto ask = [&] { return answer_of(moxie_prepack(&args.known, nullptr)); };
  EXPECT_TRUE(passed_the_checks(ask())) << ask();
  for (size_t i = 0; i < sizeof args.tail; ++i) {
    std::memset(args.tail, 0, sizeof args.tail);
    reinterpret_cast<uint8_t*>(args.tail)[i] = 1;
    EXPECT_EQ(ask().status, MOXIE_UNSUPPORTED) << i;
    EXPECT_TRUE(has(ask(), "does not know; leave it zero or install a newer one")) << ask();
  }
  args.known.struct_size = sizeof args.known + 8;  // the tail's last bytes are not read
  args.tail[0] = 0;
  EXPECT_TRUE(passed_the_checks(ask())) << ask();
}

TEST(StructSize, ThatNoStructHasIsRefused) {
  for (const uint32_t size : {0u, 4u, 7u, 12u, 49u, 5000u, 0xffffffffu}) {
    moxie_prepack_args args = prepack_args();
    args.struct_size = size;
    const Answer answer = answer_of(moxie_prepack(&args, nullptr));
    EXPECT_EQ(answer.status, MOXIE_INVALID_ARGUMENT) << size;
    EXPECT_TRUE(has(answer, "set it to sizeof(moxie_prepack_args)")) << answer;
  }
}

TEST(LastError, IsOfItsThreadAndStaysUntilTheNextFailure) {
  moxie_prepack_args args = prepack_args();
  args.k = 80;
  ASSERT_EQ(moxie_prepack(&args, nullptr), MOXIE_INVALID_ARGUMENT);
  const std::string mine = moxie_last_error();
  EXPECT_NE(mine, "");
  std::thread([&] {
    EXPECT_STREQ(moxie_last_error(), "");
    EXPECT_EQ(moxie_prepack(nullptr, nullptr), MOXIE_INVALID_ARGUMENT);
    EXPECT_NE(moxie_last_error(), mine);
  }).join();
  EXPECT_EQ(moxie_last_error(), mine);
  EXPECT_EQ(moxie_abi_version(), MOXIE_ABI_MAJOR << 16 | MOXIE_ABI_MINOR);
  EXPECT_EQ(moxie_last_error(), mine);
}

// --- bad input ---

TEST(Prepack, RefusesBadInput) {
  using Args = moxie_prepack_args;
  const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.k = 80; }, kInvalid, "must have a multiple of 32 columns, got 48 x 80"},
      {[](Args& a) { a.n = 40; }, kInvalid, "multiple of 16 rows; got 40"},
      {[](Args& a) { a.experts = -1; }, kInvalid, "must be between 0 and"},
      {[](Args& a) { a.codes = nullptr; }, kInvalid, "are null"},
      {[](Args& a) { a.scales = nullptr; }, kInvalid, "are null"},
      {[](Args& a) { ++a.codes; }, kInvalid, "must begin at multiples of 16 bytes"},
      {[](Args& a) { a.scales += 8; }, kInvalid, "must begin at multiples of 16 bytes"},
      {[](Args& a) { a.layout = 1; }, kInvalid, "the weights are prepacked already"},
      {[](Args& a) { a.layout = 2; }, kNo, "layout of moxie_prepack_args is 2"},
      {[](Args& a) { a.k = 32768; }, kNo, "at most 24576 columns, got 32768"},
      {[](Args& a) { a.experts = 65536; }, kNo, "at most 65535 matrices, got 65536"},
  };
  expect_refusals<Args>(
      prepack_args, [](const Args* args) { return moxie_prepack(args, nullptr); }, cases);
  Args args = prepack_args();
  EXPECT_TRUE(has(answer_of(moxie_unpack(&args, nullptr)), "in the checkpoint's order already"));
  args.layout = MOXIE_LAYOUT_PREPACKED;
  EXPECT_TRUE(passed_the_checks(answer_of(moxie_unpack(&args, nullptr))));
}

const std::vector<Wrong<moxie_moe_args>>& wrong_moe_args() {
  using Args = moxie_moe_args;
  static const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.rows = -1; }, kInvalid, "rows of moe must be between 0 and"},
      {[](Args& a) {
         a.rows = 65537;
         a.out = elsewhere();
       },
       kNo, "at most 65536 rows, got 65537"},
      {[](Args& a) { a.hidden_size = 48; }, kInvalid, "multiple of 32 columns, got 64 x 48"},
      {[](Args& a) { a.intermediate_size = 16; }, kInvalid, "multiple of 32 columns"},
      {[](Args& a) { a.intermediate_size = -32; }, kInvalid, "intermediate_size of moe must be"},
      {[](Args& a) { a.intermediate_size = 65536; }, kNo, "at most 65536 rows and columns"},
      {[](Args& a) { a.experts = -4; }, kInvalid, "must be between 0 and"},
      {[](Args& a) { a.experts = 513; }, kNo, "at most 512 experts, got 513"},
      {[](Args& a) { a.first_expert = -1; }, kInvalid, "first_expert of moe must be between"},
      {[](Args& a) { a.experts_per_token = 0; }, kInvalid, "must be at least 1, got 0"},
      {[](Args& a) { a.experts_per_token = 9; }, kNo, "at most 8 experts per token, got 9"},
      {[](Args& a) { a.layout = MOXIE_LAYOUT_CHECKPOINT; }, kNo, "prepack them first"},
      {[](Args& a) { a.layout = 9; }, kNo, "layout of moxie_moe_args is 9"},
      {[](Args& a) { a.x = nullptr; }, kInvalid, "x of moe is null"},
      {[](Args& a) { a.x = at<void>(8); }, kInvalid, "x of moe must begin at a multiple of 16"},
      {[](Args& a) { a.x_stride = 63; }, kInvalid, "have 64 elements but lie only 63 apart"},
      {[](Args& a) { a.x_stride = 65; }, kInvalid, "a multiple of 16 bytes apart, got 130"},
      {[](Args& a) { a.expert_ids = nullptr; }, kInvalid, "expert_ids of moe is null"},
      {[](Args& a) { a.expert_weights = nullptr; }, kInvalid, "weights of moe is null"},
      {[](Args& a) { a.expert_ids = reinterpret_cast<int32_t*>(memory + 1); }, kInvalid,
       "expert_ids of moe must begin at a multiple of 4"},
      {[](Args& a) { a.expert_weights = reinterpret_cast<float*>(memory + 2); }, kInvalid,
       "weights of moe must begin at a multiple of 4"},
      {[](Args& a) {
         a.logits = at<void>(0);
         a.num_logits = 8;
       },
       kInvalid, "logits or expert_ids with weights, not both"},
      {[](Args& a) { a.gate_up_codes = nullptr; }, kInvalid, "of gate_up of moe are null"},
      {[](Args& a) { a.gate_up_scales = nullptr; }, kInvalid, "of gate_up of moe are null"},
      {[](Args& a) { a.down_codes = nullptr; }, kInvalid, "of down of moe are null"},
      {[](Args& a) { a.down_scales = nullptr; }, kInvalid, "of down of moe are null"},
      {[](Args& a) { a.gate_up_codes += 8; }, kInvalid, "codes and scales of gate_up of moe"},
      {[](Args& a) { a.gate_up_scales += 8; }, kInvalid, "codes and scales of gate_up of moe"},
      {[](Args& a) { a.down_codes += 8; }, kInvalid, "codes and scales of down of moe"},
      {[](Args& a) { a.down_scales += 8; }, kInvalid, "codes and scales of down of moe"},
      {[](Args& a) { ++a.gate_up_bias; }, kInvalid, "gate_up_bias of moe must begin"},
      {[](Args& a) { ++a.down_bias; }, kInvalid, "down_bias of moe must begin"},
      {[](Args& a) { a.residual = at<void>(8); }, kInvalid, "residual of moe must begin"},
      {[](Args& a) { a.residual_stride = 60; }, kInvalid, "rows of residual of moe have 64"},
      {[](Args& a) { a.out = nullptr; }, kInvalid, "out of moe is null"},
      {[](Args& a) { a.out = at<void>(1032); }, kInvalid, "out of moe must begin at a multiple"},
      {[](Args& a) { a.out_stride = 60; }, kInvalid, "rows of out of moe have 64"},
      {[](Args& a) { a.out = at<void>(128); }, kInvalid, "x and out of moe must not overlap"},
      {[](Args& a) { a.weight_rounding = 2; }, kNo, "weight_rounding of moxie_moe_args is 2"},
  };
  return cases;
}
const std::vector<Wrong<moxie_moe_args>>& wrong_moe_args_with_logits() {
  using Args = moxie_moe_args;
  static const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.logits_dtype = 2; }, kNo, "logits_dtype of moxie_moe_args is 2"},
      {[](Args& a) { a.num_logits = 5; }, kInvalid, "moe has experts 2 to 5, but logits of 5"},
      {[](Args& a) { a.num_logits = 1024; }, kNo, "at most 512 logits in a row, got 1024"},
      {[](Args& a) { a.logits_stride = 7; }, kInvalid, "have 8 elements but lie only 7 apart"},
      {[](Args& a) { a.logits = at<void>(4097); }, kInvalid,
       "logits of moe must begin at a multiple of 2"},
      {[](Args& a) {
         a.logits = at<void>(4098);
         a.logits_dtype = MOXIE_DTYPE_F32;
       },
       kInvalid, "logits of moe must begin at a multiple of 4"},
      {[](Args& a) { a.first_expert = 5; }, kInvalid, "moe has experts 5 to 8, but logits of 8"},
  };
  return cases;
}

TEST(Moe, RefusesBadInput) {
  const auto function = [](const moxie_moe_args* args) { return moxie_moe(args, nullptr); };
  expect_refusals<moxie_moe_args>(moe_args, function, wrong_moe_args());
  expect_refusals<moxie_moe_args>(moe_args_with_logits, function, wrong_moe_args_with_logits());
}

TEST(Moe, WithFp8ActivationsRefusesBadInput) {
  using Args = moxie_moe_args;
  const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.activations = 2; }, kNo, "activations of moxie_moe_args is 2"},
      {[](Args& a) { a.reserved = 1; }, kNo, "reserved of moxie_moe_args is 1"},
      {[](Args& a) { a.limit = -7; }, kNo, "need a positive alpha and limit"},
      {[](Args& a) { a.alpha = -1; }, kNo, "need a positive alpha and limit"},
  };
  const auto fp8_args = [] {
    Args args = moe_args();
    args.activations = MOXIE_ACTIVATIONS_FP8;
    return args;
  };
  expect_refusals<Args>(fp8_args, [](const Args* args) { return moxie_moe(args, nullptr); }, cases);
}

int32_t flat(const moxie_moe_args* a) {
  if (a == nullptr) return moxie_moe(nullptr, nullptr);
  return moxie_moe_flat(a->layout, a->rows, a->hidden_size, a->intermediate_size, a->experts,
                        a->first_expert, a->experts_per_token, a->x, a->x_stride, a->logits,
                        a->num_logits, a->logits_stride, a->logits_dtype, a->weight_rounding,
                        a->expert_ids, a->expert_weights, a->gate_up_codes, a->gate_up_scales,
                        a->gate_up_bias, a->down_codes, a->down_scales, a->down_bias, a->alpha,
                        a->limit, a->residual, a->residual_stride, a->out, a->out_stride,
                        a->workspace, a->workspace_bytes, nullptr);
}
TEST(Moe, WithFlatArgumentsRefusesTheSame) {
  expect_refusals<moxie_moe_args>(moe_args, flat, wrong_moe_args());
  expect_refusals<moxie_moe_args>(moe_args_with_logits, flat, wrong_moe_args_with_logits());
}

TEST(GroupedGemm, RefusesBadInput) {
  using Args = moxie_grouped_gemm_args;
  const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.rows = -1; }, kInvalid, "rows of grouped_gemm must be between"},
      {[](Args& a) { a.rows = 524289; }, kNo, "at most 524288 rows, got 524289"},
      {[](Args& a) { a.experts = -1; }, kInvalid, "experts of grouped_gemm must be between"},
      {[](Args& a) { a.experts = 513; }, kNo, "at most 512 experts, got 513"},
      {[](Args& a) { a.n = 40; }, kInvalid, "multiple of 16 rows; got 40"},
      {[](Args& a) { a.k = 72; }, kInvalid, "multiple of 32 columns, got 48 x 72"},
      {[](Args& a) { a.layout = 0; }, kNo, "prepack them first"},
      {[](Args& a) { a.activation = 2; }, kNo, "activation of moxie_grouped_gemm_args is 2"},
      {[](Args& a) { a.reserved = 1; }, kNo, "reserved of moxie_grouped_gemm_args is 1"},
      {[](Args& a) { a.activation = 1; }, kInvalid, "only without SwiGLU"},
      {[](Args& a) { a.x = nullptr; }, kInvalid, "x of grouped_gemm is null"},
      {[](Args& a) { a.x = at<void>(4); }, kInvalid, "x of grouped_gemm must begin"},
      {[](Args& a) { a.x_rows = -2; }, kInvalid, "x of grouped_gemm must be between"},
      {[](Args& a) { a.x_stride = 32; }, kInvalid, "lie only 32 apart"},
      {[](Args& a) { a.codes = nullptr; }, kInvalid, "are null"},
      {[](Args& a) { a.scales += 2; }, kInvalid, "must begin at multiples of 16"},
      {[](Args& a) { ++a.bias; }, kInvalid, "bias of grouped_gemm must begin"},
      {[](Args& a) { a.row_offsets = nullptr; }, kInvalid, "row_offsets of grouped_gemm is null"},
      {[](Args& a) { a.row_offsets = reinterpret_cast<int32_t*>(memory + 2); }, kInvalid,
       "row_offsets of grouped_gemm must begin at a multiple of 4"},
      {[](Args& a) { a.gather = reinterpret_cast<int32_t*>(memory + 2); }, kInvalid,
       "gather of grouped_gemm must begin at a multiple of 4"},
      {[](Args& a) { a.scatter = reinterpret_cast<int32_t*>(memory + 2); }, kInvalid,
       "scatter of grouped_gemm must begin at a multiple of 4"},
      {[](Args& a) { a.row_weights = reinterpret_cast<float*>(memory + 2); }, kInvalid,
       "row_weights of grouped_gemm must begin at a multiple of 4"},
      {[](Args& a) { a.out = nullptr; }, kInvalid, "out of grouped_gemm is null"},
      {[](Args& a) { a.out = at<void>(0); }, kInvalid, "must not overlap"},
      {[](Args& a) { a.out_rows = -1; }, kInvalid, "out of grouped_gemm must be between"},
      {[](Args& a) { a.out_stride = 50; }, kInvalid, "a multiple of 16 bytes apart, got 100"},
  };
  const auto function = [](const Args* args) { return moxie_grouped_gemm(args, nullptr); };
  expect_refusals<Args>(grouped_gemm_args, function, cases);
  // x_rows and out_rows count with lists only; SwiGLU halves the width.
  Args args = grouped_gemm_args();
  args.gather = args.scatter = nullptr;
  args.row_weights = nullptr;
  args.x_rows = args.out_rows = -1;
  args.activation = MOXIE_ACTIVATION_SWIGLU;
  args.out_stride = 24;
  EXPECT_TRUE(passed_the_checks(answer_of(function(&args)))) << answer_of(function(&args));
}

TEST(Route, RefusesBadInput) {
  using Args = moxie_route_args;
  const auto function = [](const Args* args) { return moxie_route(args, nullptr); };
  expect_refusals<Args>(
      route_args, function,
      {{[](Args& a) { a.rows = -1; }, kInvalid, "rows of route must be between"},
       {[](Args& a) { a.rows = 65537; }, kNo, "at most 65536 rows, got 65537"},
       {[](Args& a) { a.experts_per_token = 0; }, kInvalid, "must be 1 to 8"},
       {[](Args& a) { a.experts_per_token = 9; }, kInvalid, "must be 1 to 8"},
       {[](Args& a) { a.num_logits = 513; }, kNo, "at most 512 logits in a row, got 513"},
       {[](Args& a) { a.logits_stride = 4; }, kInvalid, "lie only 4 apart"},
       {[](Args& a) { a.logits_dtype = 3; }, kNo, "logits_dtype of moxie_route_args is 3"},
       {[](Args& a) { a.weight_rounding = 3; }, kNo, "weight_rounding of moxie_route_args is 3"},
       {[](Args& a) { a.reserved = 3; }, kNo, "reserved of moxie_route_args is 3"},
       {[](Args& a) { a.expert_ids = nullptr; }, kInvalid, "expert_ids of route is null"},
       {[](Args& a) { a.expert_weights = nullptr; }, kInvalid, "weights of route is null"},
       {[](Args& a) { a.first_expert = 5; }, kInvalid, "experts 5 to 8 were asked for"},
       {[](Args& a) { a.experts = -1; }, kInvalid, "experts of route must be between"},
       {[](Args& a) { a.row_offsets = nullptr; }, kInvalid, "need row_offsets"}});
  expect_refusals<Args>(
      list_args, function,
      {{[](Args& a) { a.experts_per_token = 0; }, kInvalid, "must be at least 1, got 0"},
       {[](Args& a) { a.experts_per_token = 9; }, kNo, "at most 8 experts per token, got 9"},
       {[](Args& a) { a.experts = 513; }, kNo, "at most 512 experts, got 513"},
       {[](Args& a) { a.expert_ids = nullptr; }, kInvalid, "expert_ids of route is null"},
       {[](Args& a) { a.expert_weights = nullptr; }, kInvalid, "weights of route is null"},
       {[](Args& a) { a.row_offsets = nullptr; }, kInvalid, "row_offsets of route is null"}});
}

TEST(Mxfp4Linear, RefusesBadInput) {
  using Args = moxie_mxfp4_linear_args;
  const std::vector<Wrong<Args>> cases = {
      {[](Args& a) { a.rows = -1; }, kInvalid, "must be between 0 and"},
      {[](Args& a) {
         a.rows = 65537;
         a.out = elsewhere();
       },
       kNo, "at most 65536 rows, got 65537"},
      {[](Args& a) { a.n = 40; }, kInvalid, "multiple of 16 rows; got 40"},
      {[](Args& a) { a.k = 72; }, kInvalid, "multiple of 32 columns, got 48 x 72"},
      {[](Args& a) {
         a.k = 65568;
         a.out = elsewhere();
       },
       kNo, "at most 65536 rows and columns, got 48 x 65568"},
      {[](Args& a) { a.layout = 0; }, kNo, "prepack them first"},
      {[](Args& a) { a.activation = 7; }, kNo, "activation of moxie_mxfp4_linear_args is 7"},
      {[](Args& a) { a.activation = 1; }, kInvalid, "adds a residual only without SwiGLU"},
      {[](Args& a) { a.reserved = 7; }, kNo, "reserved of moxie_mxfp4_linear_args is 7"},
      {[](Args& a) { a.x = nullptr; }, kInvalid, "x of mxfp4_linear is null"},
      {[](Args& a) { a.x = at<void>(2); }, kInvalid, "x of mxfp4_linear must begin"},
      {[](Args& a) { a.x_stride = 60; }, kInvalid, "lie only 60 apart"},
      {[](Args& a) { a.codes = nullptr; }, kInvalid, "are null"},
      {[](Args& a) { a.scales += 1; }, kInvalid, "must begin at multiples of 16"},
      {[](Args& a) { ++a.bias; }, kInvalid, "bias of mxfp4_linear must begin"},
      {[](Args& a) { a.residual = at<void>(1026); }, kInvalid, "residual of mxfp4_linear must"},
      {[](Args& a) { a.residual_stride = 47; }, kInvalid, "lie only 47 apart"},
      {[](Args& a) { a.out = nullptr; }, kInvalid, "out of mxfp4_linear is null"},
      {[](Args& a) { a.out = at<void>(1026); }, kInvalid, "out of mxfp4_linear must begin"},
      {[](Args& a) { a.out = at<void>(256); }, kInvalid, "must not overlap"},
      {[](Args& a) { a.out_stride = 47; }, kInvalid, "lie only 47 apart"},
  };
  expect_refusals<Args>(
      linear_args, [](const Args* args) { return moxie_mxfp4_linear(args, nullptr); }, cases);
}

TEST(Quantize, RefusesBadInput) {
  using Args = moxie_quantize_mxfp4_args;
  expect_refusals<Args>(
      quantize_args, [](const Args* args) { return moxie_quantize_mxfp4(args, nullptr); },
      {{[](Args& a) { a.rows = -1; }, kInvalid, "must be between 0 and"},
       {[](Args& a) { a.k = 33; }, kInvalid, "a multiple of"},
       {[](Args& a) { a.values = nullptr; }, kInvalid, "values of quantize_mxfp4 is null"},
       {[](Args& a) { a.values = at<void>(8); }, kInvalid, "must begin at a multiple of 16"},
       {[](Args& a) { a.codes = nullptr; }, kInvalid, "are null"},
       {[](Args& a) { a.codes += 8; }, kInvalid, "codes of quantize_mxfp4 must begin"},
       {[](Args& a) { a.scales = nullptr; }, kInvalid, "are null"},
       {[](Args& a) { a.scale_rule = 3; }, kNo, "scale_rule of moxie_quantize_mxfp4_args is 3"}});
}

TEST(Dequantize, RefusesBadInput) {
  using Args = moxie_dequantize_mxfp4_args;
  expect_refusals<Args>(
      dequantize_args, [](const Args* args) { return moxie_dequantize_mxfp4(args, nullptr); },
      {{[](Args& a) { a.rows = -1; }, kInvalid, "must be between 0 and"},
       {[](Args& a) { a.k = 48; }, kInvalid, "multiple of 32 columns, got 3 x 48"},
       {[](Args& a) { a.values = nullptr; }, kInvalid, "values of dequantize_mxfp4 is null"},
       {[](Args& a) { a.codes += 8; }, kInvalid, "codes of dequantize_mxfp4 must begin"},
       {[](Args& a) { a.scales = nullptr; }, kInvalid, "are null"},
       {[](Args& a) { a.reserved = 3; }, kNo, "reserved of moxie_dequantize_mxfp4_args is 3"}});
}

// --- workspaces ---

template <class Desc, class Function>
void expect_size_refusals(const Desc& right, Function function,
                          const std::vector<Wrong<Desc>>& cases) {
  for (const Wrong<Desc>& wrong : cases) {
    Desc desc = right;
    wrong.spoil(desc);
    uint64_t bytes = 77;
    const Answer answer = answer_of(function(&desc, &bytes));
    EXPECT_EQ(answer.status, wrong.status) << answer;
    EXPECT_TRUE(has(answer, wrong.part)) << answer << "\nexpected: " << wrong.part;
    EXPECT_EQ(bytes, 77u);  // untouched by a failure
  }
  uint64_t bytes = 0;
  EXPECT_EQ(function(&right, nullptr), MOXIE_INVALID_ARGUMENT);
  EXPECT_EQ(function(nullptr, &bytes), MOXIE_INVALID_ARGUMENT);
}

TEST(WorkspaceBytes, RefusesBadSizes) {
  auto moe = zeroed<moxie_moe_desc>();
  moe.rows = 16, moe.hidden_size = 64, moe.intermediate_size = 32;
  moe.experts = 4, moe.experts_per_token = 2;
  expect_size_refusals<moxie_moe_desc>(
      moe, moxie_moe_workspace_bytes,
      {{[](auto& d) { d.hidden_size = 33; }, kInvalid, "of 16 rows and of 32 columns"},
       {[](auto& d) { d.intermediate_size = -32; }, kInvalid, "must be between"},
       {[](auto& d) { d.rows = 65537; }, kNo, "at most 65536 rows"},
       {[](auto& d) { d.experts = 1000; }, kNo, "at most 512 experts"},
       {[](auto& d) { d.experts_per_token = 0; }, kInvalid, "must be at least 1"},
       {[](auto& d) { d.num_logits = -1; }, kInvalid, "num_experts of moe must be between"},
       {[](auto& d) { d.activations = 2; }, kNo, "activations of moxie_moe_desc is 2"},
       {[](auto& d) { d.struct_size = 0; }, kInvalid, "sizeof(moxie_moe_desc)"}});
  auto gemm = zeroed<moxie_grouped_gemm_desc>();
  gemm.rows = 16, gemm.experts = 4, gemm.n = 64, gemm.k = 32;
  expect_size_refusals<moxie_grouped_gemm_desc>(
      gemm, moxie_grouped_gemm_workspace_bytes,
      {{[](auto& d) { d.n = 24; }, kInvalid, "of 16 rows and of 32 columns, got 24 x 32"},
       {[](auto& d) { d.rows = -1; }, kInvalid, "must be between"},
       {[](auto& d) { d.experts = 513; }, kNo, "at most 512 experts"},
       {[](auto& d) { d.reserved = 1; }, kNo, "reserved of moxie_grouped_gemm_desc is 1"}});
  auto route = zeroed<moxie_route_desc>();
  route.rows = 16, route.experts = 4, route.experts_per_token = 2;
  expect_size_refusals<moxie_route_desc>(
      route, moxie_route_workspace_bytes,
      {{[](auto& d) { d.rows = 1 << 20; }, kNo, "at most 65536 rows"},
       {[](auto& d) { d.experts_per_token = 9; }, kNo, "at most 8 experts per token"},
       {[](auto& d) { d.reserved = 1; }, kNo, "reserved of moxie_route_desc is 1"}});
  auto linear = zeroed<moxie_mxfp4_linear_desc>();
  linear.rows = 16, linear.n = 64, linear.k = 32;
  expect_size_refusals<moxie_mxfp4_linear_desc>(
      linear, moxie_mxfp4_linear_workspace_bytes,
      {{[](auto& d) { d.k = 48; }, kInvalid, "of 16 rows and of 32 columns, got 64 x 48"},
       {[](auto& d) { d.n = 1 << 20; }, kNo, "at most 65536 rows and columns"},
       {[](auto& d) { d.reserved = 1; }, kNo, "reserved of moxie_mxfp4_linear_desc is 1"}});
}

TEST(WorkspaceBytes, TooFewOrMisplacedAreRefused) {
  const moxie_moe_args right = moe_args();
  auto desc = zeroed<moxie_moe_desc>();
  desc.rows = right.rows, desc.hidden_size = right.hidden_size;
  desc.intermediate_size = right.intermediate_size;
  desc.experts = right.experts, desc.experts_per_token = right.experts_per_token;
  uint64_t bytes = 0;
  if (moxie_moe_workspace_bytes(&desc, &bytes) != MOXIE_OK) GTEST_SKIP() << moxie_last_error();
  ASSERT_GT(bytes, 1u);
  ASSERT_LE(bytes, right.workspace_bytes);
  const auto ask = [&](void* workspace, uint64_t size) {
    moxie_moe_args args = right;
    args.workspace = workspace, args.workspace_bytes = size;
    return answer_of(moxie_moe(&args, nullptr));
  };
  EXPECT_TRUE(passed_the_checks(ask(right.workspace, bytes))) << ask(right.workspace, bytes);
  EXPECT_TRUE(passed_the_checks(ask(right.workspace, UINT64_MAX)));
  const Answer small = ask(right.workspace, bytes - 1);
  EXPECT_EQ(small.status, MOXIE_INVALID_ARGUMENT);
  EXPECT_EQ(small.sentence, "moe needs a workspace of " + std::to_string(bytes) + " bytes, got " +
                                std::to_string(bytes - 1));
  EXPECT_TRUE(has(ask(nullptr, bytes), "the workspace of moe is null"));
  EXPECT_TRUE(has(ask(at<void>(49152 + 128), bytes), "must begin at a multiple of 256 bytes"));
}

}  // namespace
