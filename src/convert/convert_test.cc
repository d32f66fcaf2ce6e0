#include "convert/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "checkpoint/safetensors.h"
#include "convert/repack.h"
#include "convert/test_folders.h"
#include "model/weights.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;
using enum TargetLayout;

const Progress kQuiet;

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Convert, ThroughTheOriginalLayoutAndBackGivesIdenticalBytes) {
  const ScratchFolder scratch;
  const PlainTensors tensors = random_packed(small_config(), 1);
  write_folder(scratch / "in", small_config(), tensors);
  // Once through itself: the order of tensors in the file is then the converter's own.
  convert_checkpoint(scratch / "in", scratch / "hf", kHuggingFace, kQuiet);
  convert_checkpoint(scratch / "hf", scratch / "original", kOriginal, kQuiet);
  convert_checkpoint(scratch / "original", scratch / "back", kHuggingFace, kQuiet);
  EXPECT_EQ(read_folder(scratch / "hf"), tensors);
  const auto before = snapshot(scratch / "hf"), after = snapshot(scratch / "back");
  EXPECT_EQ(before, after);
  EXPECT_EQ(before.count("tokenizer.json"), 1u);
  EXPECT_EQ(before.count("generation_config.json"), 1u);
  EXPECT_EQ(before.count("notes.txt"), 0u);
}

TEST(Convert, JoinsQueryKeyAndValueInTheOriginalLayout) {
  const ScratchFolder scratch;
  const GptOssConfig config = small_config();
  const PlainTensors tensors = random_packed(config, 2);
  write_folder(scratch / "in", config, tensors);
  const WriteSummary summary =
      convert_checkpoint(scratch / "in", scratch / "out", kOriginal, kQuiet);
  EXPECT_EQ(summary.num_tensors, 15 * config.num_layers + 3);
  EXPECT_EQ(summary.num_files, 1);
  const PlainTensors original = read_folder(scratch / "out");
  EXPECT_EQ(static_cast<int64_t>(original.size()), summary.num_tensors);
  for (const int layer : {0, 11}) {
    const std::string hf = "model.layers." + std::to_string(layer) + ".self_attn.";
    for (const std::string part : {"weight", "bias"}) {
      const PlainTensor& joined =
          original.at("block." + std::to_string(layer) + ".attn.qkv." + part);
      std::vector<uint8_t> want;
      for (const char* proj : {"q_proj.", "k_proj.", "v_proj."}) {
        const std::vector<uint8_t>& bytes = tensors.at(hf + proj + part).bytes;
        want.insert(want.end(), bytes.begin(), bytes.end());
      }
      EXPECT_EQ(joined.bytes, want);
      EXPECT_EQ(joined.shape[0], 64 + 2 * 32);
    }
  }
  EXPECT_EQ(original.at("block.3.mlp.mlp1_weight.blocks"),
            tensors.at("model.layers.3.mlp.experts.gate_up_proj_blocks"));
  EXPECT_EQ(original.at("unembedding.weight"), tensors.at("lm_head.weight"));

  const std::string dtypes = read_text(scratch / "out/dtypes.json");
  EXPECT_TRUE(contains(dtypes, "\"block.3.mlp.mlp1_weight.blocks\": \"FP4\"")) << dtypes;
  EXPECT_TRUE(contains(dtypes, "\"block.3.mlp.mlp2_weight.scales\": \"UE8\""));
  EXPECT_TRUE(contains(dtypes, "\"norm.scale\": \"BF16\""));
  EXPECT_NO_THROW(load_weights(scratch / "out"));
}

TEST(Convert, ToBf16DequantizesAndExchangesTheAxes) {
  const ScratchFolder scratch;
  GptOssConfig config = small_config();
  config.intermediate_size = 96;
  const PlainTensors tensors = random_packed(config, 3);
  write_folder(scratch / "in", config, tensors);
  convert_checkpoint(scratch / "in", scratch / "out", kBf16, kQuiet);
  const PlainTensors plain = read_folder(scratch / "out");
  EXPECT_EQ(plain.size(), tensors.size() - 2 * 12);
  const PlainTensor& down = plain.at("model.layers.7.mlp.experts.down_proj");
  ASSERT_EQ(down.shape, (std::vector<int64_t>{3, 96, 64}));
  ASSERT_EQ(plain.at("model.layers.7.mlp.experts.gate_up_proj").shape,
            (std::vector<int64_t>{3, 64, 192}));
  const PlainTensor& codes = tensors.at("model.layers.7.mlp.experts.down_proj_blocks");
  const PlainTensor& scales = tensors.at("model.layers.7.mlp.experts.down_proj_scales");
  const std::vector<float> got = values_of(down);
  for (size_t expert = 0; expert < 3; ++expert) {
    for (size_t in = 0; in < 96; ++in) {
      for (size_t out = 0; out < 64; ++out) {
        const size_t block = (expert * 64 + out) * 3 + in / 32;
        const uint8_t code =
            mxfp4::code_at(codes.bytes.data() + block * 16, static_cast<int>(in % 32));
        ASSERT_EQ(got[(expert * 96 + in) * 64 + out],
                  mxfp4::decode_element<float>(code, scales.bytes[block]));
      }
    }
  }
  EXPECT_EQ(plain.at("model.layers.7.self_attn.sinks"),
            tensors.at("model.layers.7.self_attn.sinks"));
  EXPECT_FALSE(contains(read_text(scratch / "out/config.json"), "quantization_config"));
  // And what it holds, quantised again, is what it was: exact for blocks that are MXFP4 already.
  quantize_checkpoint(scratch / "out", scratch / "again", mxfp4::ScaleRule::kRoundUp, kQuiet);
  convert_checkpoint(scratch / "again", scratch / "out2", kBf16, kQuiet);
  const PlainTensors plain2 = read_folder(scratch / "out2");
  for (const auto& [name, tensor] : plain)
    EXPECT_EQ(values_of(plain2.at(name)), values_of(tensor)) << name;
}

TEST(Convert, CutsFilesAndWritesTheIndex) {
  const ScratchFolder scratch;
  const PlainTensors tensors = random_packed(small_config(), 4);
  write_folder(scratch / "in", small_config(), tensors);
  WriteOptions options;
  options.max_shard_bytes = 100000;
  const WriteSummary summary =
      convert_checkpoint(scratch / "in", scratch / "out", kHuggingFace, kQuiet, options);
  ASSERT_GT(summary.num_files, 2);
  uint64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.bytes.size();
  const std::string text = read_text(scratch / "out/model.safetensors.index.json");
  EXPECT_TRUE(contains(text, "\"total_size\": " + std::to_string(total))) << text.substr(0, 100);
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(scratch / "out")) {
    if (entry.path().extension() != ".safetensors") continue;
    files.insert(entry.path().filename().string());
    EXPECT_LT(entry.file_size(), options.max_shard_bytes + 20000);
    // Larger element types first, then by name, as in the published files.
    const SafetensorsFile file(entry.path());
    std::vector<std::tuple<const uint8_t*, int, std::string>> order;
    for (const auto& [name, tensor] : file.tensors())
      order.emplace_back(tensor.bytes.data(), tensor.dtype == DType::kU8, name);
    std::sort(order.begin(), order.end());
    for (size_t i = 1; i < order.size(); ++i)
      EXPECT_LT(std::tie(std::get<1>(order[i - 1]), std::get<2>(order[i - 1])),
                std::tie(std::get<1>(order[i]), std::get<2>(order[i])));
  }
  EXPECT_EQ(static_cast<int>(files.size()), summary.num_files);
  EXPECT_EQ(read_folder(scratch / "out"), tensors);
  // From many files to one, through the other layout in many files.
  convert_checkpoint(scratch / "out", scratch / "original", kOriginal, kQuiet, options);
  EXPECT_FALSE(fs::exists(scratch / "original/model.safetensors"));
  EXPECT_FALSE(fs::exists(scratch / "original/model.safetensors.index.json"));
  convert_checkpoint(scratch / "original", scratch / "one", kHuggingFace, kQuiet);
  EXPECT_EQ(read_folder(scratch / "one"), tensors);
}

TEST(Convert, KeepsKeysOfTheConfigurationThatItDoesNotKnow) {
  const ScratchFolder scratch;
  write_folder(scratch / "in", small_config(), random_packed(small_config(), 5));
  std::string text = read_text(scratch / "in/config.json");
  text.insert(text.find('{') + 1,
              "\"initializer_range\": 0.02, \"my_note\": {\"a\": [1, 2.5, 1e-05, 150000.0, null], "
              "\"b\": \"\\u00fc\\n\"}, \"dtype\": \"float32\",");
  const size_t old = text.find("\"initializer_range\"", text.find("my_note"));
  ASSERT_NE(old, std::string::npos);
  text.replace(old, std::strlen("\"initializer_range\""), "\"other\"");
  write_text(scratch / "in/config.json", text);
  convert_checkpoint(scratch / "in", scratch / "out", kBf16, kQuiet);
  const std::string got = read_text(scratch / "out/config.json");
  for (const char* piece : {"\"initializer_range\": 0.02", "1e-05", "150000.0",
                            "\"b\": \"\u00fc\\n\"", "\"dtype\": \"bfloat16\"", "2.5"})
    EXPECT_TRUE(contains(got, piece)) << piece << " in " << got;
  EXPECT_FALSE(contains(got, "quantization_config"));
}

// F32 norms, sinks and biases of some tools stay what they are.
TEST(Convert, CarriesFloat32VectorsThrough) {
  const ScratchFolder scratch;
  PlainTensors tensors = random_packed(small_config(), 6);
  for (auto& [name, tensor] : tensors)
    if (name.ends_with("bias") || name.ends_with("norm.weight") || name.ends_with("sinks"))
      tensor = plain_tensor(DType::kF32, tensor.shape, values_of(tensor));
  write_folder(scratch / "in", small_config(), tensors);
  convert_checkpoint(scratch / "in", scratch / "original", kOriginal, kQuiet);
  EXPECT_TRUE(
      contains(read_text(scratch / "original/dtypes.json"), "\"block.0.attn.qkv.bias\": \"F32\""));
  convert_checkpoint(scratch / "original", scratch / "back", kHuggingFace, kQuiet);
  EXPECT_EQ(read_folder(scratch / "back"), tensors);

  tensors["model.layers.2.self_attn.k_proj.bias"] =
      plain_tensor(DType::kBF16, {32}, std::vector<float>(32, 1));
  write_folder(scratch / "mixed", small_config(), tensors);
  const std::string sentence =
      error_of([&] { convert_checkpoint(scratch / "mixed", scratch / "no", kOriginal, kQuiet); });
  EXPECT_TRUE(contains(sentence, "model.layers.2.self_attn.k_proj.bias is BF16")) << sentence;
}

TEST(Convert, RefusesWhatTheOriginalLayoutCannotSay) {
  const ScratchFolder scratch;
  const auto sentence = [&](const std::function<void(GptOssConfig&)>& change) {
    GptOssConfig config = small_config();
    change(config);
    PlainTensors tensors = random_packed(config, 7);
    write_folder(scratch / "in", config, tensors);
    const std::string text =
        error_of([&] { convert_checkpoint(scratch / "in", scratch / "out", kOriginal, kQuiet); });
    EXPECT_EQ(scratch.entries(), Names{"in"});
    EXPECT_TRUE(contains(text, "choose the layout hf")) << text;
    return text;
  };
  EXPECT_TRUE(
      contains(sentence([](GptOssConfig& c) { c.layer_is_sliding[0] = false; }), "layer_types"));
  EXPECT_TRUE(contains(sentence([](GptOssConfig& c) { c.rms_norm_eps = 1e-6; }), "rms_norm_eps"));
  EXPECT_TRUE(contains(sentence([](GptOssConfig& c) { c.max_position = 1000; }),
                       "max_position_embeddings"));
  EXPECT_TRUE(contains(sentence([](GptOssConfig& c) { c.yarn_truncate = true; }), "truncate"));
  EXPECT_TRUE(
      contains(sentence([](GptOssConfig& c) { c.tie_word_embeddings = true; }), "tied embeddings"));
}

struct Damage {
  const char* name;
  std::function<void(PlainTensors&)> change;
  const char* expected;
};

class DamagedInput : public testing::TestWithParam<Damage> {};

TEST_P(DamagedInput, IsRefusedByNameAndLeavesNothing) {
  const ScratchFolder scratch;
  PlainTensors tensors = random_packed(small_config(), 8);
  GetParam().change(tensors);
  write_folder(scratch / "in", small_config(), tensors);
  const auto before = snapshot(scratch / "in");
  for (const TargetLayout layout : {kHuggingFace, kOriginal, kBf16}) {
    const std::string sentence =
        error_of([&] { convert_checkpoint(scratch / "in", scratch / "out", layout, kQuiet); });
    EXPECT_TRUE(contains(sentence, GetParam().expected)) << sentence;
  }
  EXPECT_EQ(scratch.entries(), Names{"in"});
  EXPECT_EQ(snapshot(scratch / "in"), before);
}

INSTANTIATE_TEST_SUITE_P(
    Convert, DamagedInput,
    testing::Values(Damage{"MissingTensor",
                           [](PlainTensors& tensors) {
                             tensors.erase("model.layers.11.mlp.experts.down_proj_scales");
                           },
                           "model.layers.11.mlp.experts.down_proj_scales is missing"},
                    Damage{
                        "MissingEmbedding",
                        [](PlainTensors& tensors) { tensors.erase("model.embed_tokens.weight"); },
                        "no gpt-oss checkpoint, or only a part of one"},
                    Damage{"WrongShape",
                           [](PlainTensors& tensors) {
                             tensors["model.layers.1.mlp.router.weight"].shape = {64, 3};
                           },
                           "expected BF16 [3, 64], found BF16 [64, 3]"},
                    Damage{"WrongDtype",
                           [](PlainTensors& tensors) {
                             tensors["model.layers.1.mlp.experts.gate_up_proj_blocks"].dtype =
                                 DType::kI8;
                           },
                           "expected U8 [3, 128, 2, 16], found I8"},
                    Damage{"TensorOfAnotherModel",
                           [](PlainTensors& tensors) {
                             tensors["model.layers.12.mlp.router.bias"] =
                                 tensors["model.layers.1.mlp.router.bias"];
                           },
                           "has no place in a gpt-oss model of 12 layers"}),
    [](const auto& test) { return test.param.name; });

TEST(Convert, SaysWhichCommandASourceIsFor) {
  const ScratchFolder scratch;
  write_folder(scratch / "bf16", small_config(), random_dequantized(small_config(), 9));
  write_folder(scratch / "packed", small_config(), random_packed(small_config(), 9));
  EXPECT_TRUE(contains(
      error_of([&] { convert_checkpoint(scratch / "bf16", scratch / "out", kOriginal, kQuiet); }),
      "moxie quantize"));
  EXPECT_TRUE(contains(error_of([&] {
                         quantize_checkpoint(scratch / "packed", scratch / "out",
                                             mxfp4::ScaleRule::kRoundUp, kQuiet);
                       }),
                       "moxie convert"));
  EXPECT_EQ(scratch.entries(), (Names{"bf16", "packed"}));
}

// At every single place where it is asked.
TEST(Convert, CancelledAtAnyMomentLeavesNothing) {
  const ScratchFolder scratch;
  GptOssConfig config = small_config();
  config.num_layers = 2;
  config.layer_is_sliding.resize(2);
  write_folder(scratch / "packed", config, random_packed(config, 10));
  write_folder(scratch / "bf16", config, random_dequantized(config, 10));
  const auto before = snapshot(scratch.path());
  WriteOptions options;
  options.max_shard_bytes = 60000;
  const auto run = [&](int kind, int allowed) {
    Progress progress;
    progress.cancelled = [&] { return --allowed < 0; };
    try {
      if (kind == 3)
        quantize_checkpoint(scratch / "bf16", scratch / "out", mxfp4::ScaleRule::kEven, progress,
                            options);
      else
        convert_checkpoint(scratch / "packed", scratch / "out", static_cast<TargetLayout>(kind),
                           progress, options);
    } catch (const Cancelled&) {
      EXPECT_EQ(snapshot(scratch.path()), before);
      return true;
    }
    EXPECT_TRUE(fs::exists(scratch / "out/config.json"));
    fs::remove_all(scratch / "out");
    return false;
  };
  for (int kind = 0; kind < 4; ++kind) {
    int allowed = 0;
    while (run(kind, allowed)) ++allowed;
    EXPECT_GT(allowed, 30) << kind;
  }
}

TEST(Convert, ReportsEveryByte) {
  const ScratchFolder scratch;
  write_folder(scratch / "in", small_config(), random_packed(small_config(), 11));
  uint64_t last = 0, last_total = 0;
  Progress progress;
  progress.report = [&](uint64_t done, uint64_t total, std::string_view what) {
    EXPECT_GT(done, last);
    EXPECT_FALSE(what.empty());
    last = done;
    last_total = total;
  };
  const WriteSummary summary = convert_checkpoint(scratch / "in", scratch / "out", kBf16, progress);
  EXPECT_EQ(last, last_total);
  EXPECT_EQ(last, summary.tensor_bytes);
}

TEST(Convert, TakesTheTokenizerOfAPublishedOriginalFromOneFolderUp) {
  const ScratchFolder scratch;
  write_folder(scratch / "hf", small_config(), random_packed(small_config(), 12));
  convert_checkpoint(scratch / "hf", scratch / "made", kOriginal, kQuiet);
  fs::rename(scratch / "made", scratch / "hf/original");
  for (const char* file : {"tokenizer.json", "generation_config.json"})
    fs::remove(scratch / "hf/original" / file);
  const WriteSummary summary =
      convert_checkpoint(scratch / "hf/original", scratch / "out", kHuggingFace, kQuiet);
  EXPECT_EQ(summary.num_companions, 2);
  EXPECT_EQ(read_text(scratch / "out/tokenizer.json"), read_text(scratch / "hf/tokenizer.json"));
}

// A link from the model folder to anything outside must not carry that file into the output.
TEST(Convert, RefusesACompanionThatLeadsOut) {
  const ScratchFolder scratch;
  write_folder(scratch / "in", small_config(), random_packed(small_config(), 13));
  write_text(scratch / "secret", "not yours");
  fs::remove(scratch / "in/tokenizer.json");
  fs::create_symlink("../secret", scratch / "in/tokenizer.json");
  EXPECT_NE(error_of([&] { convert_checkpoint(scratch / "in", scratch / "out", kBf16, kQuiet); }),
            "");
  EXPECT_EQ(scratch.entries(), (Names{"in", "secret"}));
}

}  // namespace
}  // namespace moxie
