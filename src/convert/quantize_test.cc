#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/safetensors.h"
#include "convert/convert.h"
#include "convert/test_folders.h"
#include "model/model.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using mxfp4::ScaleRule;

const Progress kQuiet;
const fs::path kVectors = fs::path(MOXIE_SOURCE_DIR) / "tests/golden/quantize";

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

PlainTensors expected_vectors() {
  const SafetensorsFile file(kVectors / "expected.safetensors");
  PlainTensors tensors;
  for (const auto& [name, tensor] : file.tensors())
    tensors[name] = {tensor.dtype, tensor.shape, {tensor.bytes.begin(), tensor.bytes.end()}};
  return tensors;
}

// Bytes of MXFP4, numbers of everything else.
std::vector<float> numbers(const PlainTensor& tensor) {
  if (tensor.dtype == DType::kU8) return {tensor.bytes.begin(), tensor.bytes.end()};
  return values_of(tensor);
}

class QuantizeVectors : public testing::TestWithParam<ScaleRule> {};

// tests/golden/make_quantize_vectors.py; down_proj is square there.
TEST_P(QuantizeVectors, OfATransformersCheckpointAreMetByteForByte) {
  const ScratchFolder scratch;
  quantize_checkpoint(kVectors / "bf16", scratch / "out", GetParam(), kQuiet);
  const PlainTensors got = read_folder(scratch / "out");
  const PlainTensors want = expected_vectors();
  const std::string prefix = std::string(mxfp4::name(GetParam())) + ".";
  int compared = 0;
  for (const auto& [name, tensor] : want) {
    if (name.rfind(prefix, 0) != 0) continue;
    const std::string plain = name.substr(prefix.size());
    ASSERT_EQ(got.count(plain), 1u) << plain;
    EXPECT_EQ(got.at(plain).shape, tensor.shape) << plain;
    EXPECT_TRUE(got.at(plain) == tensor) << plain;
    ++compared;
  }
  EXPECT_EQ(compared, 8);  // two layers, two matrices, blocks and scales
  // Everything else is copied.
  const PlainTensors source = read_folder(kVectors / "bf16");
  for (const auto& [name, tensor] : source) {
    if (name.ends_with("gate_up_proj") || name.ends_with("down_proj")) continue;
    EXPECT_TRUE(got.at(name) == tensor) << name;
  }
  EXPECT_EQ(got.size(), source.size() + 4);
}

INSTANTIATE_TEST_SUITE_P(Rules, QuantizeVectors,
                         testing::Values(ScaleRule::kRoundUp, ScaleRule::kFloor, ScaleRule::kEven),
                         [](const auto& test) { return std::string(mxfp4::name(test.param)); });

// transformers computed the logits with the dequantised experts, in float32.
TEST(Quantize, ResultComputesTheLogitsOfTransformers) {
  const ScratchFolder scratch;
  quantize_checkpoint(kVectors / "bf16", scratch / "out", ScaleRule::kRoundUp, kQuiet);
  const PlainTensors vectors = expected_vectors();
  const PlainTensor& token_tensor = vectors.at("tokens");
  std::vector<int32_t> tokens(token_tensor.bytes.size() / 4);
  std::memcpy(tokens.data(), token_tensor.bytes.data(), token_tensor.bytes.size());
  const std::vector<float> want = values_of(vectors.at("logits"));

  const auto rows = static_cast<int64_t>(tokens.size());
  Model model(load_weights(scratch / "out"), make_reference_backend(DType::kF32, 1), rows, rows,
              rows);
  KvCache cache = model.make_cache(rows);
  const ForwardChunk chunk{&cache, tokens, LogitsWanted::kAll};
  const std::span<const float> got = model.forward({&chunk, 1}, Phase::kPrefill);
  ASSERT_EQ(got.size(), want.size());
  const size_t vocab = got.size() / tokens.size();
  for (size_t row = 0; row < tokens.size(); ++row) {
    double difference = 0, norm = 0;
    for (size_t i = row * vocab; i < (row + 1) * vocab; ++i) {
      difference += (got[i] - want[i]) * (got[i] - want[i]);
      norm += want[i] * want[i];
    }
    EXPECT_LE(std::sqrt(difference / norm), 1e-4) << "position " << row;
  }
}

TEST(Quantize, WritesTheConfigurationOfPublishedCheckpoints) {
  const ScratchFolder scratch;
  quantize_checkpoint(kVectors / "bf16", scratch / "out", ScaleRule::kRoundUp, kQuiet);
  const std::string config = read_text(scratch / "out/config.json");
  for (const char* piece :
       {"\"quant_method\": \"mxfp4\"", "\"model.layers.*.self_attn\"",
        "\"model.layers.*.mlp.router\"", "\"model.embed_tokens\"", "\"lm_head\"",
        "\"rms_norm_eps\": 1e-05", "\"rope_theta\": 150000.0", "\"dtype\": \"bfloat16\""})
    EXPECT_TRUE(contains(config, piece)) << piece;
  EXPECT_TRUE(read_config(scratch / "out").quantized);
  EXPECT_EQ(read_text(scratch / "out/generation_config.json"),
            read_text(kVectors / "bf16/generation_config.json"));
}

// Saved in another type, the same weights give the same bytes; what is wider is rounded once.
TEST(Quantize, TakesFloat32AndFloat16) {
  const ScratchFolder scratch;
  const GptOssConfig config = small_config();
  PlainTensors halves = random_dequantized(config, 21, DType::kF16), singles = halves;
  for (auto& [name, tensor] : singles)
    tensor = plain_tensor(DType::kF32, tensor.shape, values_of(tensor));
  write_folder(scratch / "f16", config, halves);
  write_folder(scratch / "f32", config, singles);
  const WriteSummary from_halves =
      quantize_checkpoint(scratch / "f16", scratch / "out16", ScaleRule::kRoundUp, kQuiet);
  const WriteSummary from_singles =
      quantize_checkpoint(scratch / "f32", scratch / "out32", ScaleRule::kRoundUp, kQuiet);
  EXPECT_EQ(from_halves.num_rounded, 0);  // only the experts are F16 here
  EXPECT_EQ(from_singles.num_rounded, 2 + 5 * config.num_layers);
  const PlainTensors got16 = read_folder(scratch / "out16"), got32 = read_folder(scratch / "out32");
  for (const auto& [name, tensor] : got16)
    EXPECT_EQ(numbers(got32.at(name)), numbers(tensor)) << name;
  EXPECT_EQ(got32.at("model.layers.0.self_attn.q_proj.weight").dtype, DType::kBF16);
  EXPECT_EQ(got32.at("model.layers.0.self_attn.sinks").dtype, DType::kF32);

  PlainTensors fine = random_dequantized(config, 22);
  std::vector<float> values = values_of(fine.at("lm_head.weight"));
  for (float& value : values) value *= 1.0009765625f;  // needs ten more bits than bf16 has
  fine["lm_head.weight"] = plain_tensor(DType::kF32, fine.at("lm_head.weight").shape, values);
  fine["model.norm.weight"].dtype = DType::kF16;  // the same bits, read as F16
  write_folder(scratch / "fine", config, fine);
  quantize_checkpoint(scratch / "fine", scratch / "outfine", ScaleRule::kRoundUp, kQuiet);
  const PlainTensors rounded = read_folder(scratch / "outfine");
  EXPECT_TRUE(rounded.at("lm_head.weight") ==
              plain_tensor(DType::kBF16, fine.at("lm_head.weight").shape, values));
  EXPECT_EQ(rounded.at("model.norm.weight").dtype, DType::kF32);
  EXPECT_EQ(values_of(rounded.at("model.norm.weight")), values_of(fine.at("model.norm.weight")));
}

TEST(Quantize, RefusesWeightsThatAreNotFinite) {
  const ScratchFolder scratch;
  const float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {std::nanf(""), kInfinity, -kInfinity, 3.3e38f}) {
    PlainTensors tensors = random_dequantized(small_config(), 23);
    PlainTensor& down = tensors.at("model.layers.4.mlp.experts.down_proj");
    std::vector<float> values = values_of(down);
    values[64 * 64 * 2 + 77] = value;  // of expert 2
    down = plain_tensor(DType::kBF16, down.shape, values);
    write_folder(scratch / "in", small_config(), tensors);
    const std::string sentence = error_of(
        [&] { quantize_checkpoint(scratch / "in", scratch / "out", ScaleRule::kRoundUp, kQuiet); });
    EXPECT_TRUE(contains(sentence, "model.layers.4.mlp.experts.down_proj, expert 2 of 3"))
        << sentence;
    EXPECT_EQ(scratch.entries(), std::vector<std::string>{"in"});
  }
}

TEST(Quantize, RefusesFloat32ThatOverflowsInBf16) {
  const ScratchFolder scratch;
  PlainTensors tensors = random_dequantized(small_config(), 24);
  PlainTensor& head = tensors.at("lm_head.weight");
  std::vector<float> values = values_of(head);
  values[5] = 3.4028234e38f;  // finite, but infinity once rounded
  head = plain_tensor(DType::kF32, head.shape, values);
  write_folder(scratch / "in", small_config(), tensors);
  const std::string sentence = error_of(
      [&] { quantize_checkpoint(scratch / "in", scratch / "out", ScaleRule::kRoundUp, kQuiet); });
  EXPECT_TRUE(contains(sentence, "lm_head.weight holds 3.40282e+38 at element 5")) << sentence;
}

TEST(Quantize, RefusesPackedAxesInABf16Checkpoint) {
  const ScratchFolder scratch;
  PlainTensors tensors = random_dequantized(small_config(), 25);
  tensors.at("model.layers.0.mlp.experts.gate_up_proj").shape = {3, 128, 64};
  write_folder(scratch / "in", small_config(), tensors);
  const std::string sentence = error_of(
      [&] { quantize_checkpoint(scratch / "in", scratch / "out", ScaleRule::kRoundUp, kQuiet); });
  EXPECT_TRUE(contains(sentence, "[3, 64, 128], found BF16 [3, 128, 64]")) << sentence;
}

}  // namespace
}  // namespace moxie
