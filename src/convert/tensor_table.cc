#include "convert/tensor_table.h"

#include "base/check.h"
#include "mxfp4/block.h"

namespace moxie {
namespace {

constexpr std::string_view kCodesSuffix = "_blocks";

// The rows of one layer, named under their two prefixes.
class LayerRows {
 public:
  LayerRows(int64_t layer, std::vector<TensorRow>& rows)
      : name_(concat("model.layers.", layer, ".")),
        original_(concat("block.", layer, ".")),
        rows_(rows) {}

  void add(const char* name, const char* original, TensorKind kind, std::vector<int64_t> shape) {
    rows_.push_back({name_ + name, original_ + original, kind, std::move(shape)});
  }

 private:
  std::string name_, original_;
  std::vector<TensorRow>& rows_;
};

}  // namespace

std::vector<TensorRow> tensor_table(const GptOssConfig& config) {
  using enum TensorKind;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size,
                experts = config.num_experts;
  const int64_t q = config.num_q_heads * config.head_dim,
                kv = config.num_kv_heads * config.head_dim;
  constexpr int64_t kBlock = mxfp4::kBlock, kBytes = mxfp4::kBlockBytes;
  MOXIE_CHECK(hidden % kBlock == 0 && inner % kBlock == 0, kInvalidArgument,
              "MXFP4 needs hidden_size and intermediate_size to be multiples of ", kBlock, ", got ",
              hidden, " and ", inner);

  std::vector<TensorRow> rows;
  rows.push_back(
      {"model.embed_tokens.weight", "embedding.weight", kMatrix, {config.vocab_size, hidden}});
  for (int64_t index = 0; index < config.num_layers; ++index) {
    LayerRows layer(index, rows);
    layer.add("input_layernorm.weight", "attn.norm.scale", kVector, {hidden});
    layer.add("self_attn.q_proj.weight", "attn.qkv.weight", kMatrix, {q, hidden});
    layer.add("self_attn.k_proj.weight", "attn.qkv.weight", kMatrix, {kv, hidden});
    layer.add("self_attn.v_proj.weight", "attn.qkv.weight", kMatrix, {kv, hidden});
    layer.add("self_attn.q_proj.bias", "attn.qkv.bias", kVector, {q});
    layer.add("self_attn.k_proj.bias", "attn.qkv.bias", kVector, {kv});
    layer.add("self_attn.v_proj.bias", "attn.qkv.bias", kVector, {kv});
    layer.add("self_attn.sinks", "attn.sinks", kVector, {config.num_q_heads});
    layer.add("self_attn.o_proj.weight", "attn.out.weight", kMatrix, {hidden, q});
    layer.add("self_attn.o_proj.bias", "attn.out.bias", kVector, {hidden});
    layer.add("post_attention_layernorm.weight", "mlp.norm.scale", kVector, {hidden});
    layer.add("mlp.router.weight", "mlp.gate.weight", kMatrix, {experts, hidden});
    layer.add("mlp.router.bias", "mlp.gate.bias", kVector, {experts});
    layer.add("mlp.experts.gate_up_proj_blocks", "mlp.mlp1_weight.blocks", kCodes,
              {experts, 2 * inner, hidden / kBlock, kBytes});
    layer.add("mlp.experts.gate_up_proj_scales", "mlp.mlp1_weight.scales", kScales,
              {experts, 2 * inner, hidden / kBlock});
    layer.add("mlp.experts.gate_up_proj_bias", "mlp.mlp1_bias", kVector, {experts, 2 * inner});
    layer.add("mlp.experts.down_proj_blocks", "mlp.mlp2_weight.blocks", kCodes,
              {experts, hidden, inner / kBlock, kBytes});
    layer.add("mlp.experts.down_proj_scales", "mlp.mlp2_weight.scales", kScales,
              {experts, hidden, inner / kBlock});
    layer.add("mlp.experts.down_proj_bias", "mlp.mlp2_bias", kVector, {experts, hidden});
  }
  rows.push_back({"model.norm.weight", "norm.scale", kVector, {hidden}});
  if (!config.tie_word_embeddings)
    rows.push_back({"lm_head.weight", "unembedding.weight", kMatrix, {config.vocab_size, hidden}});
  return rows;
}

std::string dequantized_name(const TensorRow& row) {
  MOXIE_CHECK_INTERNAL(row.kind == TensorKind::kCodes && row.name.ends_with(kCodesSuffix));
  return row.name.substr(0, row.name.size() - kCodesSuffix.size());
}

std::vector<int64_t> dequantized_shape(const TensorRow& row) {
  return {row.shape[0], row.shape[2] * mxfp4::kBlock, row.shape[1]};
}

}  // namespace moxie
