// config.json of gpt-oss, in the spellings that exist:
//
//   Hugging Face, old   num_local_experts, num_experts_per_tok, rope_theta + rope_scaling {...}
//   Hugging Face, new   num_experts or num_local_experts, rope_parameters {..., rope_theta}
//   the original        num_experts, experts_per_token, rope_scaling_factor, rope_ntk_alpha, ...
//
// An absent key means what transformers takes it to mean; the sizes of the model must be there.
// Ranges are wide enough for any model of this architecture that fits a machine and narrow enough
// that products of a few of them cannot overflow 64 bits.
#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder_file.h"

namespace moxie {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;  // the published ones have 2 KB
constexpr size_t kMaxConfigValues = 20'000;
constexpr int64_t kMaxHeadDim = 1024;
constexpr double kMinAttentionFactor = 1e-6, kMaxAttentionFactor = 1e6;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

// Reads keys of one JSON object with their ranges.
class Reader {
 public:
  Reader(const json::Object& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  const json::Object& object() const { return object_; }
  const std::string& where() const { return where_; }
  bool has(const char* key) const { return json::find(object_, key) != nullptr; }

  std::optional<int64_t> find_int(const char* key, int64_t low, int64_t high) const {
    const auto value = json::get_int(object_, key, where_);
    MOXIE_CHECK(!value || (*value >= low && *value <= high), kInvalidArgument, where_, ": \"", key,
                "\" must be from ", low, " to ", high, ", found ", *value);
    return value;
  }
  int64_t get_int(const char* key, int64_t low, int64_t high) const {
    const auto value = find_int(key, low, high);
    MOXIE_CHECK(value, kInvalidArgument, where_, ": \"", key,
                "\" is missing; expected an integer from ", low, " to ", high);
    return *value;
  }
  // The same number under two names; both may be there if they agree.
  int64_t get_int(const char* key, const char* other, int64_t low, int64_t high) const {
    const auto value = find_int(key, low, high);
    const auto alias = find_int(other, low, high);
    MOXIE_CHECK(!value || !alias || *value == *alias, kInvalidArgument, where_, ": \"", key,
                "\" is ", *value, " but \"", other, "\" is ", *alias, "; expected the same number");
    if (value) return *value;
    if (alias) return *alias;
    throw make_error(ErrorCode::kInvalidArgument, where_, ": \"", key, "\" (or \"", other,
                     "\") is missing; expected an integer from ", low, " to ", high);
  }
  std::optional<double> find_double(const char* key, double low, double high) const {
    const auto value = json::get_double(object_, key, where_);
    MOXIE_CHECK(!value || (*value >= low && *value <= high), kInvalidArgument, where_, ": \"", key,
                "\" must be from ", low, " to ", high, ", found ", *value);
    return value;
  }
  bool get_bool(const char* key, bool absent) const {
    return json::get_bool(object_, key, where_).value_or(absent);
  }
  // The text under `key`, if it is there, must be `expected`.
  void check_is(const char* key, const char* expected) const {
    const auto value = json::get_string(object_, key, where_);
    MOXIE_CHECK(!value || *value == expected, kUnsupported, where_, ": \"", key, "\" is ",
                json::quote(*value), "; moxie runs gpt-oss, where it is \"", expected, "\"");
  }

 private:
  const json::Object& object_;
  std::string where_;
};

void check_architecture(const Reader& reader) {
  reader.check_is("model_type", "gpt_oss");
  const json::Value* names = json::find(reader.object(), "architectures");
  if (names == nullptr) return;
  for (const json::Value& name : json::as_array(*names, reader.where() + ": \"architectures\"")) {
    MOXIE_CHECK(name.is_string() && name.get_string() == "GptOssForCausalLM", kUnsupported,
                reader.where(), ": \"architectures\" names ", json::dump(name),
                "; moxie runs GptOssForCausalLM");
  }
}

// What both spellings call alike.
void read_sizes(const Reader& reader, GptOssConfig* config) {
  config->num_layers = reader.get_int("num_hidden_layers", 1, 1024);
  config->hidden_size = reader.get_int("hidden_size", 32, 1 << 17);
  config->intermediate_size = reader.get_int("intermediate_size", 32, 1 << 17);
  config->vocab_size = reader.get_int("vocab_size", 1, 1 << 24);
  config->num_q_heads = reader.get_int("num_attention_heads", 1, 4096);
  config->num_kv_heads =
      reader.find_int("num_key_value_heads", 1, 4096).value_or(config->num_q_heads);
  const auto head_dim = reader.find_int("head_dim", 2, kMaxHeadDim);
  config->head_dim = head_dim.value_or(config->hidden_size / config->num_q_heads);
  config->sliding_window = reader.find_int("sliding_window", 1, 1 << 30).value_or(128);
  config->swiglu_alpha = reader.find_double("swiglu_alpha", 1e-3, 1e3).value_or(1.702);
  config->swiglu_limit = reader.find_double("swiglu_limit", 1e-3, 1e6).value_or(7.0);

  const std::string& where = reader.where();
  MOXIE_CHECK(config->hidden_size % 32 == 0, kInvalidArgument, where, ": \"hidden_size\" is ",
              config->hidden_size, "; expected a multiple of 32, the block of MXFP4");
  MOXIE_CHECK(config->intermediate_size % 32 == 0, kInvalidArgument, where,
              ": \"intermediate_size\" is ", config->intermediate_size,
              "; expected a multiple of 32, the block of MXFP4");
  MOXIE_CHECK(config->head_dim >= 2 && config->head_dim % 2 == 0, kInvalidArgument, where,
              ": \"head_dim\" is ", config->head_dim,
              "; expected an even number, as rotation pairs its halves");
  MOXIE_CHECK(config->head_dim <= kMaxHeadDim, kInvalidArgument, where,
              ": \"head_dim\" is absent, and \"hidden_size\" / \"num_attention_heads\" is ",
              config->head_dim, "; expected at most ", kMaxHeadDim);
  MOXIE_CHECK(config->num_q_heads % config->num_kv_heads == 0, kInvalidArgument, where,
              ": \"num_attention_heads\" is ", config->num_q_heads,
              "; expected a multiple of \"num_key_value_heads\", which is ", config->num_kv_heads);
  MOXIE_CHECK(config->experts_per_token <= config->num_experts, kInvalidArgument, where, ": ",
              config->experts_per_token, " experts for a token, but there are only ",
              config->num_experts);
}

void read_layer_types(const Reader& reader, GptOssConfig* config) {
  const auto num_layers = static_cast<size_t>(config->num_layers);
  config->layer_is_sliding.resize(num_layers);
  for (size_t layer = 0; layer < num_layers; ++layer)
    config->layer_is_sliding[layer] = layer % 2 == 0;
  const json::Value* types = json::find(reader.object(), "layer_types");
  if (types == nullptr) return;
  const std::string where = reader.where() + ": \"layer_types\"";
  const json::Array& array = json::as_array(*types, where);
  MOXIE_CHECK(array.size() == num_layers, kInvalidArgument, where, " has ", array.size(),
              " entries, expected one for each of the ", num_layers, " layers");
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const bool sliding = array[layer] == json::Value("sliding_attention");
    MOXIE_CHECK(sliding || array[layer] == json::Value("full_attention"), kUnsupported, where,
                ": expected \"sliding_attention\" or \"full_attention\", found ",
                json::dump(array[layer]));
    config->layer_is_sliding[layer] = sliding;
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// `rope` is rope_scaling or rope_parameters.
void read_yarn(const Reader& rope, GptOssConfig* config) {
  const auto factor = rope.find_double("factor", 1, 1e6);
  MOXIE_CHECK(factor, kInvalidArgument, rope.where(), ": \"factor\" is missing");
  config->yarn_factor = *factor;
  config->yarn_beta_fast = rope.find_double("beta_fast", 1e-6, 1e9).value_or(32);
  config->yarn_beta_slow = rope.find_double("beta_slow", 1e-6, 1e9).value_or(1);
  config->yarn_original_context =
      rope.find_int("original_max_position_embeddings", 1, kMaxPositions)
          .value_or(config->max_position);
  config->yarn_truncate = rope.get_bool("truncate", true);
  config->yarn_attention_factor =
      rope.find_double("attention_factor", kMinAttentionFactor, kMaxAttentionFactor);
  const auto mscale = rope.find_double("mscale", 0, 1e6);
  const auto all_dim = rope.find_double("mscale_all_dim", 0, 1e6);
  if (!config->yarn_attention_factor && mscale.value_or(0) > 0 && all_dim.value_or(0) > 0)
    config->yarn_attention_factor = yarn_mscale(*factor, *mscale) / yarn_mscale(*factor, *all_dim);
  const double attention_factor = config->yarn_attention_factor.value_or(1);
  MOXIE_CHECK(attention_factor >= kMinAttentionFactor && attention_factor <= kMaxAttentionFactor,
              kInvalidArgument, rope.where(),
              ": \"mscale\" and \"mscale_all_dim\" make an attention factor of ", attention_factor,
              "; expected one from ", kMinAttentionFactor, " to ", kMaxAttentionFactor);
  MOXIE_CHECK(config->yarn_beta_fast > config->yarn_beta_slow, kInvalidArgument, rope.where(),
              ": \"beta_fast\" is ", config->yarn_beta_fast,
              "; expected more than \"beta_slow\", which is ", config->yarn_beta_slow);
}

void read_rope(const Reader& reader, GptOssConfig* config) {
  constexpr double kMinTheta = 1.001, kMaxTheta = 1e15;
  config->rope_theta = reader.find_double("rope_theta", kMinTheta, kMaxTheta).value_or(150000);
  const char* key = reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const json::Value* value = json::find(reader.object(), key);
  if (value == nullptr) return;  // the defaults of GptOssConfig are those of transformers
  const std::string where = reader.where() + ": \"" + key + "\"";
  const Reader rope(json::as_object(*value, where), where);
  if (const auto theta = rope.find_double("rope_theta", kMinTheta, kMaxTheta))
    config->rope_theta = *theta;
  MOXIE_CHECK(rope.find_double("partial_rotary_factor", 0, 1).value_or(1) == 1, kUnsupported, where,
              ": \"partial_rotary_factor\" must be 1, as in gpt-oss");
  auto type = json::get_string(rope.object(), "rope_type", where);
  if (!type) type = json::get_string(rope.object(), "type", where);
  if (!type || *type == "default") {
    config->rope_scaling = RopeScaling::kNone;
    return;
  }
  MOXIE_CHECK(*type == "yarn", kUnsupported, where, ": \"rope_type\" is ", json::quote(*type),
              "; expected \"yarn\" or \"default\"");
  config->rope_scaling = RopeScaling::kYarn;
  read_yarn(rope, config);
}

// One id, or the first of a list of ids.
std::optional<int64_t> read_token_id(const Reader& reader, const char* key) {
  const json::Value* value = json::find(reader.object(), key);
  if (value != nullptr && value->is_array()) {
    const json::Array& ids = value->get_array();
    if (ids.empty()) return std::nullopt;
    MOXIE_CHECK(ids[0].is_int64() && ids[0].get_int64() >= 0 && ids[0].get_int64() < (1 << 30),
                kInvalidArgument, reader.where(), ": \"", key,
                "\" must be a token id or a list of ids, found ", json::dump(*value).substr(0, 80));
    return ids[0].get_int64();
  }
  // -1 is an old way to say "none".
  const auto id = reader.find_int(key, -1, (1 << 30) - 1);
  return id == -1 ? std::nullopt : id;
}

GptOssConfig read_hugging_face(const Reader& reader) {
  check_architecture(reader);
  GptOssConfig config;
  config.layout = CheckpointLayout::kHuggingFace;
  config.num_experts = reader.get_int("num_local_experts", "num_experts", 1, 1 << 14);
  config.experts_per_token = reader.get_int("num_experts_per_tok", "experts_per_token", 1, 1 << 10);
  read_sizes(reader, &config);
  read_layer_types(reader, &config);
  config.max_position = reader.get_int("max_position_embeddings", 1, kMaxPositions);
  config.rms_norm_eps = reader.find_double("rms_norm_eps", 1e-12, 1).value_or(1e-5);
  read_rope(reader, &config);
  reader.check_is("hidden_act", "silu");
  MOXIE_CHECK(reader.get_bool("attention_bias", true), kUnsupported, reader.where(),
              ": \"attention_bias\" is false; gpt-oss has biases");
  config.tie_word_embeddings = reader.get_bool("tie_word_embeddings", false);
  const json::Value* quantization = json::find(reader.object(), "quantization_config");
  config.quantized = quantization != nullptr;
  if (quantization != nullptr) {
    const std::string where = reader.where() + ": \"quantization_config\"";
    Reader(json::as_object(*quantization, where), where).check_is("quant_method", "mxfp4");
  }
  config.eos_token_id = read_token_id(reader, "eos_token_id");
  config.pad_token_id = read_token_id(reader, "pad_token_id");
  return config;
}

GptOssConfig read_original(const Reader& reader) {
  GptOssConfig config;
  config.layout = CheckpointLayout::kOriginal;
  config.num_experts = reader.get_int("num_experts", 1, 1 << 14);
  config.experts_per_token = reader.get_int("experts_per_token", "num_experts_per_tok", 1, 1 << 10);
  read_sizes(reader, &config);
  read_layer_types(reader, &config);
  config.rope_theta = reader.find_double("rope_theta", 1.001, 1e15).value_or(150000);
  config.yarn_original_context =
      reader.find_int("initial_context_length", 1, kMaxPositions).value_or(4096);
  config.yarn_factor = reader.find_double("rope_scaling_factor", 1, 1e6).value_or(32);
  config.yarn_beta_slow = reader.find_double("rope_ntk_alpha", 1e-6, 1e9).value_or(1);
  config.yarn_beta_fast = reader.find_double("rope_ntk_beta", 1e-6, 1e9).value_or(32);
  MOXIE_CHECK(config.yarn_beta_fast > config.yarn_beta_slow, kInvalidArgument, reader.where(),
              ": \"rope_ntk_beta\" is ", config.yarn_beta_fast,
              "; expected more than \"rope_ntk_alpha\", which is ", config.yarn_beta_slow);
  // The original code takes a factor of 1 for "no scaling".
  config.rope_scaling = config.yarn_factor > 1 ? RopeScaling::kYarn : RopeScaling::kNone;
  config.max_position = static_cast<int64_t>(
      std::min(static_cast<double>(config.yarn_original_context) * config.yarn_factor,
               static_cast<double>(kMaxPositions)));
  return config;
}

}  // namespace

GptOssConfig parse_config(std::string_view json_text, std::string_view source) {
  const json::Value root =
      json::parse(json_text, source,
                  {.max_depth = 16, .max_bytes = kMaxConfigBytes, .max_values = kMaxConfigValues});
  const Reader reader(json::as_object(root, source), std::string(source));
  // Only Hugging Face's files say which model they are for, or how many positions it has.
  const bool original = !reader.has("model_type") && !reader.has("architectures") &&
                        !reader.has("max_position_embeddings") && reader.has("num_experts");
  return original ? read_original(reader) : read_hugging_face(reader);
}

GptOssConfig read_config(const std::filesystem::path& folder) {
  check_is_folder(folder);
  MOXIE_CHECK(folder_file_exists(folder, "config.json"), kInvalidArgument, folder.string(),
              " has no config.json; expected a model folder (is the download complete?)");
  return parse_config(read_folder_file(folder, "config.json", kMaxConfigBytes),
                      (folder / "config.json").string());
}

}  // namespace moxie
