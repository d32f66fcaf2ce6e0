#include "model/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "model/test_checkpoint.h"

namespace moxie {
namespace {

using test::NamedTensor;
using test::TemporaryFolder;
using Tensors = std::vector<NamedTensor>;

GptOssConfig tiny_config(int64_t num_layers = 2) {
  GptOssConfig config = preset_config("tiny");
  config.num_layers = num_layers;
  config.layer_is_sliding.resize(static_cast<size_t>(num_layers));
  config.vocab_size = 64;
  return config;
}

NamedTensor& find(Tensors& tensors, const std::string& name) {
  const auto at = std::find_if(tensors.begin(), tensors.end(),
                               [&](const NamedTensor& t) { return t.name == name; });
  if (at == tensors.end())
    throw make_error(ErrorCode::kInternal, "the test names no tensor ", name);
  return *at;
}

// Writes the tiny checkpoint after `spoil` had its way with it, and loads it.
GptOssWeights load(CheckpointLayout layout,
                   const std::function<void(Tensors&, GptOssConfig&)>& spoil) {
  GptOssConfig config = tiny_config();
  Tensors tensors = test::tensors_of(random_weights(config, 5, 1), layout);
  spoil(tensors, config);
  const TemporaryFolder folder;
  test::write_checkpoint(folder.path(), config, layout, tensors);
  return load_weights(folder.path());
}

std::string refusal(CheckpointLayout layout,
                    const std::function<void(Tensors&, GptOssConfig&)>& spoil) {
  try {
    load(layout, spoil);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    return error.what();
  }
  return "accepted";
}

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE((text).find(part), std::string::npos) << "in: " << (text)

void expect_same(const Bf16Matrix& a, const Bf16Matrix& b) {
  ASSERT_EQ(a.n, b.n);
  ASSERT_EQ(a.k, b.k);
  EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.n * a.k) * sizeof(bf16)), 0);
}

void expect_same(const Mxfp4Matrices& a, const Mxfp4Matrices& b) {
  ASSERT_EQ(a.n, b.n);
  ASSERT_EQ(a.k, b.k);
  const auto blocks = static_cast<size_t>(a.experts * a.n * (a.k / 32));
  EXPECT_EQ(std::memcmp(a.codes, b.codes, blocks * 16), 0);
  EXPECT_EQ(std::memcmp(a.scales, b.scales, blocks), 0);
}

class BothLayouts : public testing::TestWithParam<CheckpointLayout> {};
INSTANTIATE_TEST_SUITE_P(Layouts, BothLayouts,
                         testing::Values(CheckpointLayout::kHuggingFace,
                                         CheckpointLayout::kOriginal),
                         [](const auto& param_info) {
                           return param_info.param == CheckpointLayout::kOriginal ? "Original"
                                                                                  : "HuggingFace";
                         });

TEST_P(BothLayouts, EveryTensorArrivesWhereItBelongs) {
  const GptOssWeights want = random_weights(tiny_config(), 5, 1);
  const GptOssWeights got = load(GetParam(), [](Tensors&, GptOssConfig&) {});
  expect_same(got.embedding, want.embedding);
  expect_same(got.unembedding, want.unembedding);
  EXPECT_EQ(got.final_norm, want.final_norm);
  ASSERT_EQ(got.layers.size(), want.layers.size());
  for (size_t n = 0; n < got.layers.size(); ++n) {
    const LayerWeights &a = got.layers[n], &b = want.layers[n];
    EXPECT_EQ(a.attention_norm, b.attention_norm);
    EXPECT_EQ(a.mlp_norm, b.mlp_norm);
    expect_same(a.q, b.q);
    expect_same(a.k, b.k);
    expect_same(a.v, b.v);
    expect_same(a.o, b.o);
    EXPECT_EQ(a.q_bias, b.q_bias);
    EXPECT_EQ(a.k_bias, b.k_bias);
    EXPECT_EQ(a.v_bias, b.v_bias);
    EXPECT_EQ(a.o_bias, b.o_bias);
    EXPECT_EQ(a.sinks, b.sinks);
    expect_same(a.router, b.router);
    EXPECT_EQ(a.router_bias, b.router_bias);
    expect_same(a.gate_up, b.gate_up);
    expect_same(a.down, b.down);
    EXPECT_EQ(a.gate_up_bias, b.gate_up_bias);
    EXPECT_EQ(a.down_bias, b.down_bias);
  }
}

// Whatever tensor is not there: the error names it, and what it should have been.
TEST_P(BothLayouts, HostileRow6AnyTensorMissingIsRefusedByName) {
  const Tensors all = test::tensors_of(random_weights(tiny_config(), 5, 1), GetParam());
  for (const NamedTensor& tensor : all) {
    const std::string message = refusal(GetParam(), [&](Tensors& tensors, GptOssConfig&) {
      std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == tensor.name; });
    });
    EXPECT_CONTAINS(message, tensor.name);
    const bool names_layout =
        tensor.name == "model.embed_tokens.weight" || tensor.name == "embedding.weight";
    if (!names_layout) {
      EXPECT_CONTAINS(message,
                      "expected " + std::string(tensor.dtype == DType::kU8 ? "U8" : "BF16"));
    }
  }
}

TEST_P(BothLayouts, HostileRow6AnyTensorOfAnotherDTypeIsRefused) {
  const Tensors all = test::tensors_of(random_weights(tiny_config(1), 5, 1), GetParam());
  for (const NamedTensor& tensor : all) {
    const std::string message = refusal(GetParam(), [&](Tensors& tensors, GptOssConfig& config) {
      config = tiny_config(1);
      tensors = all;
      NamedTensor& wrong = find(tensors, tensor.name);
      wrong.dtype = DType::kF16;
      wrong.bytes.resize(2 * wrong.bytes.size() / size_bytes(tensor.dtype));
    });
    EXPECT_CONTAINS(message, tensor.name);
    EXPECT_CONTAINS(message, "model.safetensors");
    EXPECT_CONTAINS(message, "found F16 " + shape_to_string(tensor.shape));
  }
}

TEST_P(BothLayouts, HostileRow6AnyTensorOfAnotherShapeIsRefused) {
  const Tensors all = test::tensors_of(random_weights(tiny_config(1), 5, 1), GetParam());
  for (const NamedTensor& tensor : all) {
    std::vector<int64_t> longer = tensor.shape;
    longer.back() *= 2;
    const std::string message = refusal(GetParam(), [&](Tensors& tensors, GptOssConfig& config) {
      config = tiny_config(1);
      tensors = all;
      NamedTensor& wrong = find(tensors, tensor.name);
      wrong.shape = longer;
      wrong.bytes.resize(2 * wrong.bytes.size());
    });
    EXPECT_CONTAINS(message, tensor.name);
    EXPECT_CONTAINS(message, shape_to_string(tensor.shape) + ", found");
    EXPECT_CONTAINS(message, shape_to_string(longer));
  }
}

TEST(Weights, HostileRow6BlocksAndScalesThatDoNotPairAreRefused) {
  const std::string name = "model.layers.1.mlp.experts.down_proj_scales";
  const std::string message =
      refusal(CheckpointLayout::kHuggingFace, [&](Tensors& tensors, GptOssConfig&) {
        NamedTensor& scales = find(tensors, name);
        scales.shape = {8, 96, 1};  // blocks have two per row
        scales.bytes.resize(8 * 96);
      });
  EXPECT_CONTAINS(message, name + ": expected U8 [8, 96, 2], found U8 [8, 96, 1]");
}

TEST(Weights, HostileRow9VocabularyUnlikeTheEmbeddingRowsIsRefused) {
  const std::string message =
      refusal(CheckpointLayout::kHuggingFace,
              [](Tensors&, GptOssConfig& config) { config.vocab_size = 65; });
  EXPECT_CONTAINS(message,
                  "model.embed_tokens.weight: expected BF16 [65, 96], found BF16 [64, 96]");
}

TEST(Weights, NormsSinksAndBiasesMayBeFloat32) {
  const GptOssWeights want = random_weights(tiny_config(), 5, 1);
  const GptOssWeights got =
      load(CheckpointLayout::kHuggingFace, [&](Tensors& tensors, GptOssConfig&) {
        for (NamedTensor& tensor : tensors) {
          const bool is_vector = tensor.name.ends_with("norm.weight") ||
                                 tensor.name.ends_with("sinks") || tensor.name.ends_with("bias");
          if (!is_vector) continue;
          std::vector<uint8_t> wide(tensor.bytes.size() * 2);
          for (size_t i = 0; i < tensor.bytes.size(); i += 2)
            std::copy_n(tensor.bytes.begin() + static_cast<int64_t>(i), 2,
                        wide.begin() + static_cast<int64_t>(2 * i + 2));
          tensor.dtype = DType::kF32;
          tensor.bytes = wide;
        }
      });
  EXPECT_EQ(got.final_norm, want.final_norm);
  EXPECT_EQ(got.layers[1].sinks, want.layers[1].sinks);
  EXPECT_EQ(got.layers[1].gate_up_bias, want.layers[1].gate_up_bias);
  EXPECT_EQ(got.layers[0].k_bias, want.layers[0].k_bias);
}

TEST(Weights, ExpertsInBf16AreSentToQuantize) {
  const std::string message = refusal(CheckpointLayout::kHuggingFace, [](Tensors& tensors,
                                                                         GptOssConfig& config) {
    config.quantized = false;
    std::erase_if(tensors, [](const NamedTensor& t) {
      return t.name.ends_with("_blocks") || t.name.ends_with("_scales");
    });
    for (const char* n : {"0", "1"}) {
      const std::string prefix = "model.layers." + std::string(n) + ".mlp.experts.";
      tensors.push_back({prefix + "gate_up_proj",
                         DType::kBF16,
                         {8, 96, 128},
                         std::vector<uint8_t>(8 * 96 * 128 * 2)});
      tensors.push_back(
          {prefix + "down_proj", DType::kBF16, {8, 64, 96}, std::vector<uint8_t>(8 * 96 * 64 * 2)});
    }
  });
  EXPECT_CONTAINS(message, "gate_up_proj");
  EXPECT_CONTAINS(message, "moxie quantize");
}

TEST(Weights, TiedEmbeddingsServeTwice) {
  const GptOssWeights got =
      load(CheckpointLayout::kHuggingFace, [](Tensors& tensors, GptOssConfig& config) {
        config.tie_word_embeddings = true;
        std::erase_if(tensors, [](const NamedTensor& t) { return t.name == "lm_head.weight"; });
      });
  EXPECT_EQ(got.unembedding.data, got.embedding.data);
}

TEST(Weights, TensorsOfAnotherModelAreRefused) {
  std::string message = refusal(CheckpointLayout::kHuggingFace, [](Tensors& tensors,
                                                                   GptOssConfig&) {
    tensors.push_back(
        {"model.layers.0.self_attn.q_norm.weight", DType::kBF16, {32}, std::vector<uint8_t>(64)});
  });
  EXPECT_CONTAINS(message, "model.layers.0.self_attn.q_norm.weight BF16 [32] has no place");
  // Layers that config.json does not count.
  message = refusal(CheckpointLayout::kHuggingFace, [](Tensors&, GptOssConfig& config) {
    config.num_layers = 1;
    config.layer_is_sliding.resize(1);
  });
  EXPECT_CONTAINS(message, "model.layers.1.");
  // And a folder of nothing we know.
  message = refusal(CheckpointLayout::kHuggingFace, [](Tensors& tensors, GptOssConfig&) {
    tensors = {{"transformer.wte.weight", DType::kBF16, {2, 2}, std::vector<uint8_t>(8)}};
  });
  EXPECT_CONTAINS(message, "no gpt-oss checkpoint");
}

TEST(Presets, PublishedShapesHaveThePublishedParameterCounts) {
  for (const auto& [name, want] :
       {std::pair("20b", 20914757184), std::pair("120b", 116829156672)}) {
    const GptOssConfig c = preset_config(name);
    const int64_t q = c.num_q_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
    const int64_t h = c.hidden_size, i = c.intermediate_size, e = c.num_experts;
    const int64_t layer = (q + 2 * kv) * (h + 1) + h * (q + 1) + c.num_q_heads + 2 * h +
                          e * (h + 1) + e * (3 * h * i + 2 * i + h);
    EXPECT_EQ(c.num_layers * layer + 2 * c.vocab_size * h + h, want) << name;
    EXPECT_EQ(c.layer_is_sliding.size(), static_cast<size_t>(c.num_layers));
    EXPECT_TRUE(c.layer_is_sliding[0]);
    EXPECT_FALSE(c.layer_is_sliding[1]);
  }
  EXPECT_THROW(preset_config("7b"), Error);
}

TEST(RandomWeights, DependOnTheSeedAndNotOnTheThreads) {
  const GptOssWeights one = random_weights(tiny_config(), 5, 1);
  const GptOssWeights three = random_weights(tiny_config(), 5, 3);
  const GptOssWeights other = random_weights(tiny_config(), 6, 1);
  ASSERT_EQ(one.buffer->size_bytes(), three.buffer->size_bytes());
  EXPECT_EQ(std::memcmp(one.buffer->data(), three.buffer->data(), one.buffer->size_bytes()), 0);
  EXPECT_NE(std::memcmp(one.buffer->data(), other.buffer->data(), one.buffer->size_bytes()), 0);
  EXPECT_EQ(one.layers[1].sinks, three.layers[1].sinks);
}

}  // namespace
}  // namespace moxie
