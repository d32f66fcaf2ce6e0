// Any bytes as config.json: refused with an Error, or a configuration that is within its ranges and
// reads back the same from what write_config() makes of it, in each layout that can express it.
#include <cstdlib>

#include "checkpoint/checkpoint.h"
#include "moxie/error.h"

namespace {

void check_ranges(const moxie::GptOssConfig& c) {
  const bool sound = c.num_layers > 0 && c.num_experts > 0 && c.experts_per_token > 0 &&
                     c.experts_per_token <= c.num_experts && c.hidden_size % 32 == 0 &&
                     c.hidden_size > 0 && c.intermediate_size % 32 == 0 &&
                     c.intermediate_size > 0 && c.vocab_size > 0 && c.num_kv_heads > 0 &&
                     c.num_q_heads % c.num_kv_heads == 0 && c.head_dim >= 2 &&
                     c.head_dim % 2 == 0 && c.sliding_window > 0 && c.max_position > 0 &&
                     c.rope_theta > 1 && c.rms_norm_eps > 0 && c.yarn_original_context > 0 &&
                     c.layer_is_sliding.size() == static_cast<size_t>(c.num_layers);
  if (!sound) std::abort();
}

void check_reads_back(const moxie::GptOssConfig& config, moxie::CheckpointLayout layout) {
  std::string written;
  try {
    written = moxie::write_config(config, layout);
  } catch (const moxie::Error& error) {
    if (error.code() != moxie::ErrorCode::kUnsupported) std::abort();
    return;
  }
  const moxie::GptOssConfig again = moxie::parse_config(written, "written");
  if (moxie::write_config(again, layout) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t size) {
  using moxie::CheckpointLayout;
  try {
    const std::string_view text(reinterpret_cast<const char*>(input), size);
    const moxie::GptOssConfig config = moxie::parse_config(text, "fuzz");
    check_ranges(config);
    check_reads_back(config, CheckpointLayout::kHuggingFace);
    check_reads_back(config, CheckpointLayout::kOriginal);
  } catch (const moxie::Error& error) {
    const std::string_view sentence = error.what();
    if (error.code() == moxie::ErrorCode::kInternal || sentence.find("written") == 0) std::abort();
  }
  return 0;
}
