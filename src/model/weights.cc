#include "model/weights.h"

#include <charconv>
#include <cstring>
#include <initializer_list>
#include <set>
#include <string>

#include "base/check.h"

namespace moxie {
namespace {

using Shape = std::vector<int64_t>;

// Names of one layer's tensors behind "model.layers.7." or "block.7.".
struct LayerNames {
  const char *attention_norm, *q, *k, *v, *qkv, *o, *sinks, *mlp_norm, *router, *gate_up, *down;
};
constexpr LayerNames kHuggingFaceNames = {
    .attention_norm = "input_layernorm.weight",
    .q = "self_attn.q_proj.",
    .k = "self_attn.k_proj.",
    .v = "self_attn.v_proj.",
    .qkv = nullptr,
    .o = "self_attn.o_proj.",
    .sinks = "self_attn.sinks",
    .mlp_norm = "post_attention_layernorm.weight",
    .router = "mlp.router.",
    .gate_up = "mlp.experts.gate_up_proj_",
    .down = "mlp.experts.down_proj_",
};
constexpr LayerNames kOriginalNames = {
    .attention_norm = "attn.norm.scale",
    .q = nullptr,
    .k = nullptr,
    .v = nullptr,
    .qkv = "attn.qkv.",
    .o = "attn.out.",
    .sinks = "attn.sinks",
    .mlp_norm = "mlp.norm.scale",
    .router = "mlp.gate.",
    .gate_up = "mlp.mlp1_",
    .down = "mlp.mlp2_",
};

// Takes tensors out of a folder by name, each checked; remembers which were taken.
class Reader {
 public:
  Reader(const TensorFolder& folder, const std::filesystem::path& path)
      : folder_(folder), path_(path) {}

  bool has(const std::string& name) const { return folder_.find(name) != nullptr; }

  Bf16Matrix matrix(const std::string& name, int64_t n, int64_t k) {
    const TensorView& tensor = take(name, {DType::kBF16}, {n, k});
    MOXIE_CHECK(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % alignof(bf16) == 0, kUnsupported,
                tensor.file->path().string(), ": tensor ", name,
                " starts at an odd byte; rewrite the file with `moxie convert`");
    return {reinterpret_cast<const bf16*>(tensor.bytes.data()), n, k};
  }

  // Some tools keep norms, sinks and biases in F32.
  std::vector<float> vector(const std::string& name, const Shape& shape) {
    const TensorView& tensor = take(name, {DType::kBF16, DType::kF32}, shape);
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    if (tensor.dtype == DType::kF32) {
      std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    } else {
      for (size_t i = 0; i < values.size(); ++i) {
        bf16 value;
        std::memcpy(&value, tensor.bytes.data() + i * sizeof value, sizeof value);
        values[i] = to_float(value);
      }
    }
    return values;
  }

  Mxfp4Matrices experts(const std::string& blocks_name, const std::string& scales_name,
                        int64_t experts, int64_t n, int64_t k) {
    const TensorView& blocks = take(blocks_name, {DType::kU8}, {experts, n, k / 32, 16});
    const TensorView& scales = take(scales_name, {DType::kU8}, {experts, n, k / 32});
    return {blocks.bytes.data(), scales.bytes.data(), experts, n, k};
  }

  // A tensor of the model that the forward pass does not know means that this is another model.
  // What lies in the folder under other names (logits that somebody saved) does not matter.
  void refuse_rest(const GptOssConfig& config) const {
    for (const auto& [name, tensor] : folder_.tensors()) {
      if (taken_.contains(name)) continue;
      if (!name.starts_with("model.") && !name.starts_with("block.")) continue;
      if (name.ends_with(".rotary_emb.inv_freq")) continue;  // a buffer that old tools kept
      throw make_error(ErrorCode::kUnsupported, tensor->file->path().string(), ": tensor ", name,
                       " ", name_and_shape(*tensor), " has no place in a gpt-oss model of ",
                       config.num_layers, " layers; is config.json of the same model?");
    }
  }

 private:
  static std::string name_and_shape(const TensorView& tensor) {
    return concat(moxie::name(tensor.dtype), " ", shape_to_string(tensor.shape));
  }

  const TensorView& take(const std::string& name, std::initializer_list<DType> dtypes,
                         const Shape& shape) {
    std::string expected;
    for (const DType dtype : dtypes)
      expected += concat(expected.empty() ? "" : " or ", moxie::name(dtype));
    expected += " " + shape_to_string(shape);

    const TensorView* tensor = folder_.find(name);
    MOXIE_CHECK(tensor != nullptr, kInvalidArgument, path_.string(), ": tensor ", name,
                " is missing, expected ", expected, "; is the download complete?");
    bool dtype_fits = false;
    for (const DType dtype : dtypes) dtype_fits = dtype_fits || tensor->dtype == dtype;
    MOXIE_CHECK(dtype_fits && tensor->shape == shape, kInvalidArgument,
                tensor->file->path().string(), ": tensor ", name, ": expected ", expected,
                ", found ", name_and_shape(*tensor));
    taken_.insert(name);
    return *tensor;
  }

  const TensorFolder& folder_;
  const std::filesystem::path& path_;
  std::set<std::string, std::less<>> taken_;
};

Bf16Matrix rows_of(const Bf16Matrix& matrix, int64_t begin, int64_t count) {
  return {matrix.data + begin * matrix.k, count, matrix.k};
}

LayerWeights load_layer(Reader& reader, const GptOssConfig& config, const std::string& prefix,
                        const LayerNames& names, bool original) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t experts = config.num_experts;
  const int64_t q_width = config.num_q_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  LayerWeights layer;
  layer.attention_norm = reader.vector(prefix + names.attention_norm, {hidden});
  if (original) {
    const std::string base = prefix + names.qkv;
    const Bf16Matrix qkv = reader.matrix(base + "weight", q_width + 2 * kv_width, hidden);
    const std::vector<float> bias = reader.vector(base + "bias", {q_width + 2 * kv_width});
    layer.q = rows_of(qkv, 0, q_width);
    layer.k = rows_of(qkv, q_width, kv_width);
    layer.v = rows_of(qkv, q_width + kv_width, kv_width);
    const auto k_begin = bias.begin() + q_width, v_begin = k_begin + kv_width;
    layer.q_bias.assign(bias.begin(), k_begin);
    layer.k_bias.assign(k_begin, v_begin);
    layer.v_bias.assign(v_begin, bias.end());
  } else {
    layer.q = reader.matrix(prefix + names.q + "weight", q_width, hidden);
    layer.k = reader.matrix(prefix + names.k + "weight", kv_width, hidden);
    layer.v = reader.matrix(prefix + names.v + "weight", kv_width, hidden);
    layer.q_bias = reader.vector(prefix + names.q + "bias", {q_width});
    layer.k_bias = reader.vector(prefix + names.k + "bias", {kv_width});
    layer.v_bias = reader.vector(prefix + names.v + "bias", {kv_width});
  }
  layer.sinks = reader.vector(prefix + names.sinks, {config.num_q_heads});
  layer.o = reader.matrix(prefix + names.o + "weight", hidden, q_width);
  layer.o_bias = reader.vector(prefix + names.o + "bias", {hidden});
  layer.mlp_norm = reader.vector(prefix + names.mlp_norm, {hidden});
  layer.router = reader.matrix(prefix + names.router + "weight", experts, hidden);
  layer.router_bias = reader.vector(prefix + names.router + "bias", {experts});

  const std::string gate_up = prefix + names.gate_up, down = prefix + names.down;
  // transformers' unquantised form: the same names without "_blocks".
  const std::string plain = gate_up.substr(0, gate_up.size() - 1);
  MOXIE_CHECK(!reader.has(plain), kUnsupported, "tensor ", plain,
              " holds experts that are not quantised; make an MXFP4 checkpoint with `moxie "
              "quantize BF16_FOLDER OUT` and use that");
  const char* blocks = original ? "weight.blocks" : "blocks";
  const char* scales = original ? "weight.scales" : "scales";
  layer.gate_up = reader.experts(gate_up + blocks, gate_up + scales, experts, 2 * inner, hidden);
  layer.down = reader.experts(down + blocks, down + scales, experts, hidden, inner);
  layer.gate_up_bias = reader.vector(gate_up + "bias", {experts, 2 * inner});
  layer.down_bias = reader.vector(down + "bias", {experts, hidden});
  return layer;
}

}  // namespace

GptOssWeights load_weights(const std::filesystem::path& folder) {
  GptOssWeights weights;
  weights.config = read_config(folder);
  weights.folder = std::make_shared<const TensorFolder>(folder);
  const GptOssConfig& config = weights.config;

  // The tensors' names decide, not the spelling of config.json: tools mix the two.
  Reader reader(*weights.folder, folder);
  const bool original = reader.has("embedding.weight");
  MOXIE_CHECK(original || reader.has("model.embed_tokens.weight"), kInvalidArgument,
              folder.string(), ": neither model.embed_tokens.weight nor embedding.weight is among ",
              weights.folder->tensors().size(),
              " tensors: this is no gpt-oss checkpoint, or only a part of one");

  for (int64_t n = 0; n < config.num_layers; ++n) {
    const std::string prefix = concat(original ? "block." : "model.layers.", n, ".");
    weights.layers.push_back(load_layer(reader, config, prefix,
                                        original ? kOriginalNames : kHuggingFaceNames, original));
  }
  weights.embedding = reader.matrix(original ? "embedding.weight" : "model.embed_tokens.weight",
                                    config.vocab_size, config.hidden_size);
  weights.final_norm =
      reader.vector(original ? "norm.scale" : "model.norm.weight", {config.hidden_size});
  // Tied: transformers ignores lm_head.weight then, and so do we.
  weights.unembedding = config.tie_word_embeddings
                            ? weights.embedding
                            : reader.matrix(original ? "unembedding.weight" : "lm_head.weight",
                                            config.vocab_size, config.hidden_size);
  reader.refuse_rest(config);
  return weights;
}

}  // namespace moxie
