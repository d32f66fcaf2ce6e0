#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "convert/convert.h"
#include "convert/test_folders.h"
#include "model/model.h"
#include "moxie/tokenizer.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using enum TargetLayout;

const Progress kQuiet;

WriteSummary synthesize(const fs::path& out, const GptOssConfig& config, uint64_t seed = 1,
                        int threads = 1, TargetLayout layout = kHuggingFace) {
  return synthesize_checkpoint(config, out, layout, std::nullopt, seed, kQuiet,
                               {.num_threads = threads});
}

TEST(Synthesize, FollowsFromTheSeedAlone) {
  const ScratchFolder scratch;
  GptOssConfig config = preset_config("tiny");
  config.vocab_size = 60000;  // several tasks and pieces
  synthesize(scratch / "one", config, 1, 1);
  synthesize(scratch / "three", config, 1, 3);
  synthesize(scratch / "other", config, 2, 1);
  EXPECT_EQ(snapshot(scratch / "one"), snapshot(scratch / "three"));
  const PlainTensors one = read_folder(scratch / "one"), other = read_folder(scratch / "other");
  for (const auto& [name, tensor] : one) {
    ASSERT_TRUE(other.count(name)) << name;
    EXPECT_FALSE(other.at(name) == tensor) << name;
  }
}

TEST(Synthesize, MakesTheSameWeightsInBothLayouts) {
  const ScratchFolder scratch;
  synthesize(scratch / "hf", preset_config("tiny"));
  synthesize(scratch / "original", preset_config("tiny"), 1, 2, kOriginal);
  convert_checkpoint(scratch / "original", scratch / "back", kHuggingFace, kQuiet);
  EXPECT_EQ(read_folder(scratch / "back"), read_folder(scratch / "hf"));
  EXPECT_NO_THROW(load_weights(scratch / "original"));
  EXPECT_EQ(read_text(scratch / "original/tokenizer.json"),
            read_text(scratch / "hf/tokenizer.json"));
}

TEST(Synthesize, MakesUnitEmbeddingsAndEveryCode) {
  const ScratchFolder scratch;
  GptOssConfig config = preset_config("tiny");
  config.vocab_size = 20000;
  synthesize(scratch / "out", config);
  const PlainTensors tensors = read_folder(scratch / "out");
  const std::vector<float> embedding = values_of(tensors.at("model.embed_tokens.weight"));
  double sum = 0, squares = 0;
  for (const float value : embedding) {
    sum += value;
    squares += value * value;
  }
  const auto count = static_cast<double>(embedding.size());
  // Drawn from a table of 4096: its mean and variance carry an error of 1/64 and of sqrt(2)/64;
  // five of those.
  EXPECT_NEAR(sum / count, 0, 5.0 / 64);
  EXPECT_NEAR(squares / count, 1, 5 * std::sqrt(2.0) / 64);

  std::array<int64_t, 16> codes = {};
  const PlainTensor& blocks = tensors.at("model.layers.1.mlp.experts.down_proj_blocks");
  for (const uint8_t byte : blocks.bytes) {
    ++codes[byte & 15];
    ++codes[byte >> 4];
  }
  const double expected = static_cast<double>(blocks.bytes.size()) / 8;
  for (int code = 0; code < 16; ++code)
    EXPECT_NEAR(static_cast<double>(codes[static_cast<size_t>(code)]), expected,
                6 * std::sqrt(expected))
        << code;
}

// A random model that sent all tokens to the same experts would be timed wrongly.
TEST(Synthesize, RoutesTokensAboutEvenly) {
  const ScratchFolder scratch;
  GptOssConfig config = preset_config("tiny");
  config.num_experts = 8;
  synthesize(scratch / "out", config);
  const GptOssWeights weights = load_weights(scratch / "out");
  // What the first layer's router says of every embedding row, by its own arithmetic.
  const LayerWeights& layer = weights.layers[0];
  std::vector<int> used(8);
  for (int64_t token = 0; token < config.vocab_size; ++token) {
    int best = 0;
    float best_logit = -1e30f;
    for (int64_t expert = 0; expert < 8; ++expert) {
      float logit = layer.router_bias[static_cast<size_t>(expert)];
      for (int64_t i = 0; i < config.hidden_size; ++i)
        logit += to_float(layer.router.data[expert * config.hidden_size + i]) *
                 to_float(weights.embedding.data[token * config.hidden_size + i]);
      if (logit > best_logit) {
        best_logit = logit;
        best = static_cast<int>(expert);
      }
    }
    ++used[static_cast<size_t>(best)];
  }
  // 64 of 512 each would be uniform.
  for (const int count : used) {
    EXPECT_GT(count, 16);
    EXPECT_LT(count, 192);
  }
}

TEST(Synthesize, GivesFiniteLogits) {
  const ScratchFolder scratch;
  synthesize(scratch / "out", preset_config("tiny"));
  Model model(load_weights(scratch / "out"), make_reference_backend(DType::kF32, 1), 4, 4, 64);
  KvCache cache = model.make_cache(64);
  const std::vector<int32_t> tokens = {1, 511, 3, 72};
  const ForwardChunk chunk{&cache, tokens, LogitsWanted::kAll};
  for (const float logit : model.forward({&chunk, 1}, Phase::kPrefill))
    ASSERT_TRUE(std::isfinite(logit));
}

TEST(Synthesize, CopiesATokenizerAndRefusesOneThatIsTooLarge) {
  const ScratchFolder scratch;
  write_text(scratch / "tokenizer.json", byte_tokenizer_json(400));
  const GptOssConfig config = preset_config("tiny");
  synthesize_checkpoint(config, scratch / "out", kHuggingFace, scratch / "tokenizer.json", 1,
                        kQuiet);
  EXPECT_EQ(read_text(scratch / "out/tokenizer.json"), byte_tokenizer_json(400));
  EXPECT_EQ(read_config(scratch / "out").eos_token_id, 392);

  write_text(scratch / "tokenizer.json", byte_tokenizer_json(201088));
  const std::string large = error_of([&] {
    synthesize_checkpoint(config, scratch / "no", kHuggingFace, scratch / "tokenizer.json", 1,
                          kQuiet);
  });
  EXPECT_NE(large.find("ids up to 200018, the model has only 512"), std::string::npos) << large;
  write_text(scratch / "tokenizer.json", "IQ== 0\n");
  const std::string ranks = error_of([&] {
    synthesize_checkpoint(config, scratch / "no", kHuggingFace, scratch / "tokenizer.json", 1,
                          kQuiet);
  });
  EXPECT_NE(ranks.find("is no tokenizer.json"), std::string::npos) << ranks;
  EXPECT_EQ(scratch.entries(), (std::vector<std::string>{"out", "tokenizer.json"}));
}

TEST(ByteTokenizer, HasThePublishedIdsWhereTheyFit) {
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(byte_tokenizer_json(201088), "test");
  EXPECT_EQ(tokenizer.vocab_size(), 200019);
  for (const auto& [name, id] : {std::pair<const char*, TokenId>{"<|startoftext|>", 199998},
                                 {"<|endoftext|>", 199999},
                                 {"<|reserved_200000|>", 200000},
                                 {"<|return|>", 200002},
                                 {"<|constrain|>", 200003},
                                 {"<|channel|>", 200005},
                                 {"<|start|>", 200006},
                                 {"<|end|>", 200007},
                                 {"<|message|>", 200008},
                                 {"<|call|>", 200012},
                                 {"<|endofprompt|>", 200018}})
    EXPECT_EQ(tokenizer.special(name), id) << name;
}

TEST(ByteTokenizer, HasTheLastIdsInASmallVocabulary) {
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(byte_tokenizer_json(266), "test");
  EXPECT_EQ(tokenizer.vocab_size(), 266);
  EXPECT_EQ(tokenizer.special("<|startoftext|>"), 256);
  EXPECT_EQ(tokenizer.special("<|endofprompt|>"), 265);
  EXPECT_NE(error_of([] { byte_tokenizer_json(265); }).find("takes 266 ids"), std::string::npos);
}

// o200k's ids 0 .. 255: '!' is 0, newline 198, space 220, and every byte comes back.
TEST(ByteTokenizer, HasEveryByteAtItsPublishedId) {
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(byte_tokenizer_json(512), "test");
  EXPECT_EQ(tokenizer.encode("! \n~"), (std::vector<TokenId>{0, 220, 198, 93}));
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::vector<TokenId> ids = tokenizer.encode(all);
  EXPECT_EQ(ids.size(), 256u);
  EXPECT_EQ(tokenizer.decode(ids), all);
  EXPECT_EQ(ids[0xa1], 94);
  EXPECT_EQ(ids[0xad], 255);
  EXPECT_EQ(ids[0xff], 187);
  EXPECT_EQ(ids[0], 188);
  EXPECT_EQ(ids[0x7f], 221);
}

}  // namespace
}  // namespace moxie
