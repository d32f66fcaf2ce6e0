#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

// The published config.json of the 20b model, in Hugging Face's first spelling.
constexpr const char* kHuggingFace20b = R"({
  "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
  "eos_token_id": 200002, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu",
  "hidden_size": 2880, "initial_context_length": 4096, "initializer_range": 0.02,
  "intermediate_size": 2880,
  "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
  "max_position_embeddings": 131072, "model_type": "gpt_oss", "num_attention_heads": 64,
  "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
  "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 199999,
  "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn",
    "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"},
  "rms_norm_eps": 1e-05,
  "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
    "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false},
  "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
  "tie_word_embeddings": false, "transformers_version": "4.55.0.dev0", "use_cache": true,
  "vocab_size": 201088})";

constexpr const char* kOriginal20b = R"({"num_hidden_layers": 24, "num_experts": 32,
  "experts_per_token": 4, "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
  "swiglu_limit": 7.0, "head_dim": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
  "sliding_window": 128, "initial_context_length": 4096, "rope_theta": 150000,
  "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32})";

// `text` with members set (or taken out, where the new value is empty).
std::string with(std::string_view text,
                 std::initializer_list<std::pair<const char*, const char*>> changes) {
  json::Value root = json::parse(text, "test");
  for (const auto& [key, value] : changes) {
    root.get_object().erase(key);
    if (*value != '\0') root.get_object()[key] = json::parse(value, "test");
  }
  return json::dump(root);
}

GptOssConfig parse(std::string_view text) { return parse_config(text, "config.json"); }

std::string refused(std::string_view text) {
  const std::string sentence = refusal([&] { parse(text); });
  EXPECT_SAYS(sentence, "config.json: ");
  return sentence;
}

std::string refused_with(const char* key, const char* value) {
  const std::string sentence = refused(with(kHuggingFace20b, {{key, value}}));
  EXPECT_SAYS(sentence, key);
  return sentence;
}

// Everything the model is made of, in one line: two configurations are the same if these are.
std::string essence(GptOssConfig config) {
  config.eos_token_id = config.pad_token_id = std::nullopt;
  return write_config(config, CheckpointLayout::kHuggingFace);
}

TEST(Config, ReadsThePublished20b) {
  const GptOssConfig c = parse(kHuggingFace20b);
  EXPECT_EQ(c.layout, CheckpointLayout::kHuggingFace);
  EXPECT_EQ(c.num_layers, 24);
  EXPECT_EQ(c.num_experts, 32);
  EXPECT_EQ(c.experts_per_token, 4);
  EXPECT_EQ(c.hidden_size, 2880);
  EXPECT_EQ(c.intermediate_size, 2880);
  EXPECT_EQ(c.vocab_size, 201088);
  EXPECT_EQ(c.num_q_heads, 64);
  EXPECT_EQ(c.num_kv_heads, 8);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.sliding_window, 128);
  ASSERT_EQ(c.layer_is_sliding.size(), 24u);
  for (size_t layer = 0; layer < 24; ++layer) EXPECT_EQ(c.layer_is_sliding[layer], layer % 2 == 0);
  EXPECT_EQ(c.max_position, 131072);
  EXPECT_EQ(c.rope_theta, 150000);
  EXPECT_EQ(c.rope_scaling, RopeScaling::kYarn);
  EXPECT_EQ(c.yarn_factor, 32);
  EXPECT_EQ(c.yarn_beta_fast, 32);
  EXPECT_EQ(c.yarn_beta_slow, 1);
  EXPECT_EQ(c.yarn_original_context, 4096);
  EXPECT_FALSE(c.yarn_truncate);
  EXPECT_EQ(c.yarn_attention_factor, std::nullopt);
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_EQ(c.swiglu_alpha, 1.702);
  EXPECT_EQ(c.swiglu_limit, 7.0);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_TRUE(c.quantized);
  EXPECT_EQ(c.eos_token_id, 200002);
  EXPECT_EQ(c.pad_token_id, 199999);
}

TEST(Config, TheOriginalsFileMeansTheSameModel) {
  const GptOssConfig c = parse(kOriginal20b);
  EXPECT_EQ(c.layout, CheckpointLayout::kOriginal);
  EXPECT_EQ(c.max_position, 131072);
  EXPECT_TRUE(c.quantized);
  EXPECT_EQ(essence(c), essence(parse(kHuggingFace20b)));
}

TEST(Config, TheNewSpellingMeansTheSameModel) {
  const std::string renamed = with(
      kHuggingFace20b, {{"rope_scaling", ""},
                        {"rope_theta", ""},
                        {"experts_per_token", ""},
                        {"initial_context_length", ""},
                        {"num_local_experts", ""},
                        {"num_experts", "32"},
                        {"swiglu_alpha", "1.702"},
                        {"rope_parameters",
                         R"({"beta_fast":32.0,"beta_slow":1.0,"factor":32.0,"rope_theta":150000.0,
                 "original_max_position_embeddings":4096,"rope_type":"yarn","truncate":false})"}});
  EXPECT_EQ(essence(parse(renamed)), essence(parse(kHuggingFace20b)));
}

TEST(Config, NullIsAbsent) {
  const GptOssConfig c = parse(with(kHuggingFace20b, {{"quantization_config", "null"},
                                                      {"eos_token_id", "null"},
                                                      {"pad_token_id", "null"},
                                                      {"sliding_window", "null"},
                                                      {"layer_types", "null"},
                                                      {"rope_parameters", "null"},
                                                      {"head_dim", "null"},
                                                      {"num_attention_heads", "45"},
                                                      {"num_key_value_heads", "null"},
                                                      {"torch_dtype", "null"},
                                                      {"experts_per_token", "null"}}));
  EXPECT_FALSE(c.quantized);
  EXPECT_EQ(c.eos_token_id, std::nullopt);
  EXPECT_EQ(c.sliding_window, 128);
  EXPECT_TRUE(c.layer_is_sliding[22] && !c.layer_is_sliding[23]);
  EXPECT_EQ(c.yarn_factor, 32);
  EXPECT_EQ(c.head_dim, 64);  // hidden_size / num_attention_heads
  EXPECT_EQ(c.num_kv_heads, 45);
  EXPECT_SAYS(refused_with("num_hidden_layers", "null"), "is missing");
}

TEST(Config, AbsentKeysMeanWhatTransformersTakesThemToMean) {
  const GptOssConfig no_rope =
      parse(with(kHuggingFace20b, {{"rope_scaling", ""}, {"rope_theta", ""}}));
  EXPECT_EQ(essence(no_rope), essence(parse(kHuggingFace20b)));
  const GptOssConfig bare =
      parse(with(kHuggingFace20b, {{"rope_scaling", R"({"rope_type":"yarn","factor":8})"}}));
  EXPECT_TRUE(bare.yarn_truncate);
  EXPECT_EQ(bare.yarn_original_context, 131072);
  EXPECT_EQ(bare.yarn_beta_fast, 32);
  const GptOssConfig plain =
      parse(with(kHuggingFace20b, {{"rope_scaling", R"({"rope_type":"default"})"}}));
  EXPECT_EQ(plain.rope_scaling, RopeScaling::kNone);
  EXPECT_EQ(plain.rope_theta, 150000);
}

TEST(Config, TheAttentionFactorMayBeGivenByItsParts) {
  const GptOssConfig given = parse(with(
      kHuggingFace20b,
      {{"rope_scaling", R"({"type":"yarn","factor":32,"attention_factor":1.25,"mscale":1})"}}));
  EXPECT_EQ(given.yarn_attention_factor, 1.25);
  const GptOssConfig parts = parse(
      with(kHuggingFace20b,
           {{"rope_scaling", R"({"type":"yarn","factor":32,"mscale":2,"mscale_all_dim":1})"}}));
  EXPECT_NEAR(parts.yarn_attention_factor.value(), 1.6931471805599454 / 1.3465735902799727, 1e-15);
}

TEST(Config, RopeThetaInsideRopeParametersWins) {
  const GptOssConfig c = parse(
      with(kHuggingFace20b, {{"rope_parameters", R"({"rope_type":"default","rope_theta":500})"}}));
  EXPECT_EQ(c.rope_theta, 500);
}

TEST(Config, AListOfEndTokensGivesTheFirst) {
  EXPECT_EQ(parse(with(kHuggingFace20b, {{"eos_token_id", "[7,8]"}})).eos_token_id, 7);
  EXPECT_EQ(parse(with(kHuggingFace20b, {{"eos_token_id", "[]"}})).eos_token_id, std::nullopt);
  EXPECT_EQ(parse(with(kHuggingFace20b, {{"pad_token_id", "-1"}})).pad_token_id, std::nullopt);
}

TEST(Config, OtherModelsAreRefusedByName) {
  const auto code = [](const char* key, const char* value) {
    try {
      parse(with(kHuggingFace20b, {{key, value}}));
    } catch (const Error& error) {
      EXPECT_SAYS(std::string(error.what()), key);
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code("model_type", R"("llama")"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("architectures", R"(["LlamaForCausalLM"])"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("hidden_act", R"("gelu")"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("attention_bias", "false"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("quantization_config", R"({"quant_method":"fp8"})"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("rope_scaling", R"({"rope_type":"llama3","factor":8})"), ErrorCode::kUnsupported);
  EXPECT_EQ(code("rope_scaling", R"({"type":"yarn","factor":8,"partial_rotary_factor":0.5})"),
            ErrorCode::kUnsupported);
  EXPECT_SAYS(refused("{}"), "is missing");
  EXPECT_SAYS(refused("[]"), "expected a JSON object");
  EXPECT_SAYS(refused(""), "not valid JSON");
}

// ---- row 9: numbers that cannot be --------------------------------------------------------------

TEST(Config, HostileRow09ZeroOrEndlessLayers) {
  EXPECT_SAYS(refused_with("num_hidden_layers", "0"), "must be from 1 to 1024, found 0");
  EXPECT_SAYS(refused_with("num_hidden_layers", "-3"), "found -3");
  EXPECT_SAYS(refused_with("num_hidden_layers", "1000000000"), "found 1000000000");
  EXPECT_SAYS(refused_with("num_hidden_layers", "9223372036854775808"), "an integer");
  EXPECT_SAYS(refused_with("num_hidden_layers", "24.5"), "an integer");
  EXPECT_SAYS(refused_with("num_hidden_layers", "\"24\""), "an integer");
}

TEST(Config, HostileRow09ABillionExpertsOrMoreChosenThanThereAre) {
  EXPECT_SAYS(refused_with("num_local_experts", "1000000000"), "found 1000000000");
  EXPECT_SAYS(refused_with("num_local_experts", "0"), "found 0");
  EXPECT_SAYS(
      refused(with(kHuggingFace20b, {{"num_experts_per_tok", "33"}, {"experts_per_token", "33"}})),
      "33 experts for a token, but there are only 32");
  EXPECT_SAYS(refused_with("experts_per_token", "5"), "expected the same number");
  EXPECT_SAYS(refused_with("num_experts", "31"), "expected the same number");
}

TEST(Config, HostileRow09HeadsThatDoNotDivide) {
  EXPECT_SAYS(refused_with("head_dim", "0"), "found 0");
  EXPECT_SAYS(refused_with("head_dim", "63"), "expected an even number");
  EXPECT_SAYS(refused_with("head_dim", "1000000"), "found 1000000");
  EXPECT_SAYS(refused_with("num_key_value_heads", "7"), "expected a multiple of");
  EXPECT_SAYS(refused_with("num_key_value_heads", "0"), "found 0");
  EXPECT_SAYS(refused_with("num_attention_heads", "0"), "found 0");
  // hidden_size / heads where head_dim is absent
  EXPECT_SAYS(refused(with(kHuggingFace20b, {{"head_dim", ""}, {"num_attention_heads", "4096"}})),
              "\"head_dim\" is 0");
  EXPECT_SAYS(
      refused(with(kHuggingFace20b,
                   {{"head_dim", ""}, {"num_attention_heads", "1"}, {"num_key_value_heads", "1"}})),
      "\"num_attention_heads\" is 2880; expected at most 1024");
}

TEST(Config, HostileRow09NegativeWindowAndOtherSizes) {
  EXPECT_SAYS(refused_with("sliding_window", "-128"), "found -128");
  EXPECT_SAYS(refused_with("sliding_window", "0"), "found 0");
  EXPECT_SAYS(refused_with("hidden_size", "2881"), "a multiple of 32");
  EXPECT_SAYS(refused_with("intermediate_size", "40"), "a multiple of 32");
  EXPECT_SAYS(refused_with("hidden_size", "0"), "found 0");
  EXPECT_SAYS(refused_with("vocab_size", "0"), "found 0");
  EXPECT_SAYS(refused_with("vocab_size", "4000000000"), "found 4000000000");
  EXPECT_SAYS(refused_with("max_position_embeddings", "0"), "found 0");
  EXPECT_SAYS(refused_with("rms_norm_eps", "0"), "found 0");
  EXPECT_SAYS(refused(R"({"rms_norm_eps":1e999})"), "too large");
  EXPECT_SAYS(refused_with("swiglu_limit", "-7"), "found -7");
  EXPECT_SAYS(refused_with("rope_theta", "1"), "found 1");
  EXPECT_SAYS(refused_with("eos_token_id", "-7"), "found -7");
  EXPECT_SAYS(refused_with("eos_token_id", "[\"x\"]"), "a token id");
}

TEST(Config, HostileRow09LayerTypes) {
  EXPECT_SAYS(refused_with("layer_types", "[]"), "has 0 entries, expected one for each of the 24");
  EXPECT_SAYS(refused_with("layer_types", "{}"), "expected a JSON array");
  const std::string one_layer = with(kHuggingFace20b, {{"num_hidden_layers", "1"}});
  EXPECT_SAYS(refused(with(one_layer, {{"layer_types", R"(["chunked_attention"])"}})),
              "found \"chunked_attention\"");
  EXPECT_SAYS(refused(with(one_layer, {{"layer_types", "[3]"}})), "found 3");
  EXPECT_FALSE(
      parse(with(one_layer, {{"layer_types", R"(["full_attention"])"}})).layer_is_sliding[0]);
}

TEST(Config, HostileRow09RopeScaling) {
  const auto rope = [](const char* members) {
    const std::string value = std::string(R"({"rope_type":"yarn",)") + members + "}";
    return refused_with("rope_scaling", value.c_str());
  };
  EXPECT_SAYS(rope(R"("beta_fast":32)"), "\"factor\" is missing");
  EXPECT_SAYS(rope(R"("factor":0.5)"), "found 0.5");
  EXPECT_SAYS(rope(R"("factor":32,"beta_fast":1,"beta_slow":1)"), "expected more than");
  EXPECT_SAYS(rope(R"("factor":32,"original_max_position_embeddings":0)"), "found 0");
  EXPECT_SAYS(rope(R"("factor":32,"truncate":"no")"), "true or false");
  EXPECT_SAYS(rope(R"("factor":1e6,"mscale":1e6,"mscale_all_dim":1e-9)"),
              "\"mscale\" and \"mscale_all_dim\" make an attention factor of 1.38155e+06");
  EXPECT_SAYS(rope(R"("factor":1e6,"mscale":1e-9,"mscale_all_dim":1e6)"),
              "attention factor of 7.2");
  EXPECT_SAYS(refused_with("rope_scaling", "7"), "expected a JSON object");
}

TEST(Config, HostileRow08DeepDuplicateAndHugeText) {
  EXPECT_SAYS(refused(std::string(200000, '[')), "not valid JSON");
  EXPECT_SAYS(refused(R"({"head_dim":64,"head_dim":32})"), "duplicate key");
  EXPECT_SAYS(refused("{\"x\":\"" + std::string(2 << 20, 'x') + "\"}"), "expected at most");
  std::string many = "{\"x\":[0";
  for (int i = 0; i < 30000; ++i) many += ",0";
  EXPECT_SAYS(refused(many + "]}"), "more than");
}

// ---- writing ------------------------------------------------------------------------------------

TEST(ConfigWriter, BothLayoutsReadBackTheSame) {
  GptOssConfig c = parse(kHuggingFace20b);
  c.sliding_window = 64;
  c.yarn_factor = 20.5;
  c.rope_theta = 1e6;
  c.max_position = 83968;  // 4096 * 20.5, as the original's file implies
  for (const CheckpointLayout layout :
       {CheckpointLayout::kHuggingFace, CheckpointLayout::kOriginal}) {
    const GptOssConfig again = parse(write_config(c, layout));
    EXPECT_EQ(again.layout, layout);
    EXPECT_EQ(essence(again), essence(c));
  }
}

TEST(ConfigWriter, HuggingFacesFileKeepsWhatTheOriginalsCannotSay) {
  GptOssConfig c = parse(kHuggingFace20b);
  c.quantized = false;
  c.tie_word_embeddings = true;
  c.swiglu_alpha = 2;
  c.rms_norm_eps = 1e-6;
  c.yarn_truncate = true;
  c.yarn_attention_factor = 1.5;
  c.layer_is_sliding.assign(24, false);
  const GptOssConfig again = parse(write_config(c, CheckpointLayout::kHuggingFace));
  EXPECT_FALSE(again.quantized);
  EXPECT_TRUE(again.tie_word_embeddings);
  EXPECT_EQ(again.swiglu_alpha, 2);
  EXPECT_EQ(again.rms_norm_eps, 1e-6);
  EXPECT_TRUE(again.yarn_truncate);
  EXPECT_EQ(again.yarn_attention_factor, 1.5);
  EXPECT_EQ(again.layer_is_sliding, c.layer_is_sliding);
  EXPECT_EQ(again.eos_token_id, 200002);
  EXPECT_SAYS(refusal([&] { write_config(c, CheckpointLayout::kOriginal); }), "cannot express");
}

TEST(ConfigWriter, TheOriginalsFileCannotSayAnythingElse) {
  const auto refused_change = [](auto change) {
    GptOssConfig c = parse(kHuggingFace20b);
    change(c);
    return refusal([&] { write_config(c, CheckpointLayout::kOriginal); });
  };
  EXPECT_EQ(refused_change([](GptOssConfig&) {}), "accepted");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.rms_norm_eps = 1e-6; }), "rms_norm_eps");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.swiglu_alpha = 1; }), "swiglu_alpha");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.tie_word_embeddings = true; }), "tied");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.layer_is_sliding[3] = true; }), "layer_types");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.yarn_truncate = true; }), "truncate");
  EXPECT_SAYS(refused_change([](GptOssConfig& c) { c.yarn_attention_factor = 1; }), "attention");
  EXPECT_EQ(refused_change([](GptOssConfig& c) { c.rope_scaling = RopeScaling::kNone; }),
            "accepted");
}

TEST(ConfigWriter, WithoutYarnBothLayoutsKeepTheContext) {
  GptOssConfig c = parse(kHuggingFace20b);
  c.rope_scaling = RopeScaling::kNone;
  c.max_position = 4096;
  for (const CheckpointLayout layout :
       {CheckpointLayout::kHuggingFace, CheckpointLayout::kOriginal}) {
    const GptOssConfig again = parse(write_config(c, layout));
    EXPECT_EQ(again.rope_scaling, RopeScaling::kNone);
    EXPECT_EQ(again.max_position, 4096);
  }
}

TEST(ConfigWriter, WithoutYarnWhatIsWrittenReadsBackTheSame) {
  const GptOssConfig original =
      parse(with(kOriginal20b, {{"initial_context_length", "5000"}, {"rope_scaling_factor", "1"}}));
  EXPECT_EQ(original.max_position, 5000);
  for (const CheckpointLayout layout :
       {CheckpointLayout::kHuggingFace, CheckpointLayout::kOriginal}) {
    const std::string written = write_config(original, layout);
    EXPECT_EQ(write_config(parse(written), layout), written);
  }
}

// ---- files --------------------------------------------------------------------------------------

class ConfigFileTest : public FolderTest {};

TEST_F(ConfigFileTest, ReadsTheFileOfAFolder) {
  EXPECT_SAYS(refusal([&] { read_config(folder_); }), "has no config.json");
  EXPECT_SAYS(refusal([&] { read_config(folder_ / "absent"); }), "there is no folder");
  write("config.json", kHuggingFace20b);
  EXPECT_EQ(read_config(folder_).num_layers, 24);
  write("config.json", "{");
  EXPECT_SAYS(refusal([&] { read_config(folder_); }), (folder_ / "config.json").string());
}

TEST_F(ConfigFileTest, HostileRow11ConfigThatLeadsElsewhere) {
  write("outside.json", kHuggingFace20b);
  std::filesystem::create_directories(folder_ / "model");
  std::filesystem::create_symlink(folder_ / "outside.json", folder_ / "model/config.json");
  EXPECT_SAYS(refusal([&] { read_config(folder_ / "model"); }), "is a link to");
  std::filesystem::remove(folder_ / "model/config.json");
  std::filesystem::create_symlink("/dev/zero", folder_ / "model/config.json");
  EXPECT_SAYS(refusal([&] { read_config(folder_ / "model"); }), "is a link to");
}

TEST_F(ConfigFileTest, GenerationConfigMayBeAbsentOrSayLittle) {
  const GenerationConfig none = read_generation_config(folder_);
  EXPECT_TRUE(none.eos_token_ids.empty());
  EXPECT_EQ(none.temperature, std::nullopt);
  write("generation_config.json",
        R"({"bos_token_id":199998,"do_sample":true,"eos_token_id":[200002,199999,200012],
            "pad_token_id":199999,"temperature":null,"transformers_version":"4.55.0.dev0"})");
  EXPECT_EQ(read_generation_config(folder_).eos_token_ids,
            (std::vector<int32_t>{200002, 199999, 200012}));
  write("generation_config.json",
        R"({"eos_token_id":7,"temperature":0.6,"top_p":0.95,"min_p":0.05,"top_k":40})");
  const GenerationConfig all = read_generation_config(folder_);
  EXPECT_EQ(all.eos_token_ids, std::vector<int32_t>{7});
  EXPECT_EQ(all.temperature, 0.6);
  EXPECT_EQ(all.top_p, 0.95);
  EXPECT_EQ(all.min_p, 0.05);
  EXPECT_EQ(all.top_k, 40);
}

TEST_F(ConfigFileTest, HostileRow09GenerationConfigOutOfRange) {
  const auto refused_text = [&](const char* text) {
    write("generation_config.json", text);
    return refusal([&] { read_generation_config(folder_); });
  };
  EXPECT_SAYS(refused_text(R"({"temperature":-1})"), "\"temperature\" must be from 0");
  EXPECT_SAYS(refused_text(R"({"top_p":1.5})"), "\"top_p\"");
  EXPECT_SAYS(refused_text(R"({"min_p":"x"})"), "\"min_p\"");
  EXPECT_SAYS(refused_text(R"({"top_k":-1})"), "\"top_k\"");
  EXPECT_SAYS(refused_text(R"({"eos_token_id":[-1]})"), "a token id");
  EXPECT_SAYS(refused_text(R"({"eos_token_id":99999999999})"), "a token id");
  EXPECT_SAYS(refused_text("[]"), "expected a JSON object");
}

}  // namespace
}  // namespace moxie
