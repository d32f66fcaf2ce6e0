#include <charconv>

#include "base/check.h"
#include "checkpoint/checkpoint.h"

namespace moxie {
namespace {

// The shortest text that reads back as the same double, with a point so that it stays a float.
std::string number(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string result(text, end);
  if (result.find_first_of(".e") == std::string::npos) result += ".0";
  return result;
}

std::string number(int64_t value) { return std::to_string(value); }

// A JSON object of one member a line; nested ones are indented further.
class ObjectText {
 public:
  explicit ObjectText(int depth) : indent_(static_cast<size_t>(depth) * 2, ' ') {}
  void add(const char* key, const std::string& value) {
    text_ += (text_.empty() ? "" : ",\n") + indent_ + "  \"" + key + "\": " + value;
  }
  std::string str() const { return "{\n" + text_ + "\n" + indent_ + "}"; }

 private:
  std::string indent_, text_;
};

const char* boolean(bool value) { return value ? "true" : "false"; }

std::string hugging_face(const GptOssConfig& c) {
  ObjectText text(0);
  text.add("architectures", "[\n    \"GptOssForCausalLM\"\n  ]");
  text.add("attention_bias", "true");
  text.add("attention_dropout", "0.0");
  if (c.eos_token_id) text.add("eos_token_id", number(*c.eos_token_id));
  text.add("experts_per_token", number(c.experts_per_token));
  text.add("head_dim", number(c.head_dim));
  text.add("hidden_act", "\"silu\"");
  text.add("hidden_size", number(c.hidden_size));
  if (c.rope_scaling == RopeScaling::kYarn)
    text.add("initial_context_length", number(c.yarn_original_context));
  text.add("initializer_range", "0.02");
  text.add("intermediate_size", number(c.intermediate_size));
  std::string types = "[";
  for (const bool sliding : c.layer_is_sliding)
    types += std::string(types.size() > 1 ? "," : "") + "\n    \"" +
             (sliding ? "sliding_attention" : "full_attention") + "\"";
  text.add("layer_types", types + "\n  ]");
  text.add("max_position_embeddings", number(c.max_position));
  text.add("model_type", "\"gpt_oss\"");
  text.add("num_attention_heads", number(c.num_q_heads));
  text.add("num_experts_per_tok", number(c.experts_per_token));
  text.add("num_hidden_layers", number(c.num_layers));
  text.add("num_key_value_heads", number(c.num_kv_heads));
  text.add("num_local_experts", number(c.num_experts));
  if (c.pad_token_id) text.add("pad_token_id", number(*c.pad_token_id));
  if (c.quantized) {
    ObjectText quantization(1);
    quantization.add("modules_to_not_convert",
                     "[\n      \"model.layers.*.self_attn\",\n      \"model.layers.*.mlp.router\","
                     "\n      \"model.embed_tokens\",\n      \"lm_head\"\n    ]");
    quantization.add("quant_method", "\"mxfp4\"");
    text.add("quantization_config", quantization.str());
  }
  text.add("rms_norm_eps", number(c.rms_norm_eps));
  ObjectText rope(1);
  if (c.rope_scaling == RopeScaling::kYarn) {
    if (c.yarn_attention_factor) rope.add("attention_factor", number(*c.yarn_attention_factor));
    rope.add("beta_fast", number(c.yarn_beta_fast));
    rope.add("beta_slow", number(c.yarn_beta_slow));
    rope.add("factor", number(c.yarn_factor));
    rope.add("original_max_position_embeddings", number(c.yarn_original_context));
    rope.add("rope_type", "\"yarn\"");
    rope.add("truncate", boolean(c.yarn_truncate));
  } else {
    rope.add("rope_type", "\"default\"");
  }
  text.add("rope_scaling", rope.str());
  text.add("rope_theta", number(c.rope_theta));
  text.add("router_aux_loss_coef", "0.9");
  text.add("sliding_window", number(c.sliding_window));
  if (c.swiglu_alpha != GptOssConfig{}.swiglu_alpha)
    text.add("swiglu_alpha", number(c.swiglu_alpha));
  text.add("swiglu_limit", number(c.swiglu_limit));
  text.add("tie_word_embeddings", boolean(c.tie_word_embeddings));
  text.add("use_cache", "true");
  text.add("vocab_size", number(c.vocab_size));
  return text.str() + "\n";
}

// The original's file has no key for these; its code has the values of gpt-oss built in.
void check_original_can_say(const GptOssConfig& c) {
  const auto check = [](bool same, const char* what) {
    MOXIE_CHECK(same, kUnsupported, "the original layout's config.json cannot express ", what,
                "; choose the layout hf");
  };
  const GptOssConfig defaults;
  check(c.rms_norm_eps == defaults.rms_norm_eps, "another rms_norm_eps than 1e-5");
  check(c.swiglu_alpha == defaults.swiglu_alpha, "another swiglu_alpha than 1.702");
  check(!c.tie_word_embeddings, "tied embeddings");
  for (size_t layer = 0; layer < c.layer_is_sliding.size(); ++layer)
    check(c.layer_is_sliding[layer] == (layer % 2 == 0),
          "layer_types that do not alternate from sliding on");
  if (c.rope_scaling == RopeScaling::kNone) return;
  check(!c.yarn_truncate, "YaRN with rounded corner dimensions (truncate)");
  check(!c.yarn_attention_factor, "a YaRN attention_factor");
  check(c.yarn_factor > 1, "YaRN with a factor of 1");
}

std::string original(const GptOssConfig& c) {
  check_original_can_say(c);
  const bool yarn = c.rope_scaling == RopeScaling::kYarn;
  ObjectText text(0);
  text.add("num_hidden_layers", number(c.num_layers));
  text.add("num_experts", number(c.num_experts));
  text.add("experts_per_token", number(c.experts_per_token));
  text.add("vocab_size", number(c.vocab_size));
  text.add("hidden_size", number(c.hidden_size));
  text.add("intermediate_size", number(c.intermediate_size));
  text.add("swiglu_limit", number(c.swiglu_limit));
  text.add("head_dim", number(c.head_dim));
  text.add("num_attention_heads", number(c.num_q_heads));
  text.add("num_key_value_heads", number(c.num_kv_heads));
  text.add("sliding_window", number(c.sliding_window));
  // Without YaRN the context is what the model was trained for.
  text.add("initial_context_length", number(yarn ? c.yarn_original_context : c.max_position));
  text.add("rope_theta", number(c.rope_theta));
  text.add("rope_scaling_factor", number(yarn ? c.yarn_factor : 1.0));
  text.add("rope_ntk_alpha", number(c.yarn_beta_slow));
  text.add("rope_ntk_beta", number(c.yarn_beta_fast));
  return text.str() + "\n";
}

}  // namespace

std::string write_config(const GptOssConfig& config, CheckpointLayout layout) {
  return layout == CheckpointLayout::kOriginal ? original(config) : hugging_face(config);
}

}  // namespace moxie
