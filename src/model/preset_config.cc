#include "base/check.h"
#include "model/weights.h"

namespace moxie {
namespace {

GptOssConfig published(int64_t num_layers, int64_t num_experts) {
  GptOssConfig config;
  config.num_layers = num_layers;
  config.num_experts = num_experts;
  config.experts_per_token = 4;
  config.hidden_size = config.intermediate_size = 2880;
  config.vocab_size = 201088;
  config.num_q_heads = 64;
  config.num_kv_heads = 8;
  config.head_dim = 64;
  config.sliding_window = 128;
  config.max_position = 131072;
  config.eos_token_id = 200002;
  config.pad_token_id = 199999;
  return config;
}

// Small enough for any test, and unlike the published shapes wherever code might lean on them: the
// query width is not the hidden size, nor that the inner size, and three blocks make a row.
GptOssConfig tiny() {
  GptOssConfig config;
  config.num_layers = 4;
  config.num_experts = 8;
  config.experts_per_token = 3;
  config.hidden_size = 96;
  config.intermediate_size = 64;
  config.vocab_size = 512;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.sliding_window = 16;
  config.max_position = 131072;
  return config;
}

}  // namespace

GptOssConfig preset_config(std::string_view name) {
  GptOssConfig config;
  if (name == "20b")
    config = published(24, 32);
  else if (name == "120b")
    config = published(36, 128);
  else if (name == "tiny")
    config = tiny();
  else
    throw make_error(ErrorCode::kInvalidArgument, "there is no preset \"", name,
                     "\": use 20b, 120b or tiny");
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    config.layer_is_sliding.push_back(layer % 2 == 0);
  return config;
}

}  // namespace moxie
