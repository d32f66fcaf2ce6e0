#include "work_model.h"

#include <gtest/gtest.h>

#include "model/weights.h"

namespace moxie::cli {
namespace {

// The published shapes' figures, counted from their tensors.
TEST(WorkModel, CountsTheArithmeticOfOneToken) {
  EXPECT_EQ(prefill_flops(preset_config("20b"), 1), 7214284800.0);
  EXPECT_EQ(prefill_flops(preset_config("120b"), 1), 10262200320.0);
  // The unembedding counts once however many tokens there are; in the last layer all tokens but the
  // last need keys and values only, 2 x 512 of 2880 columns: a 24th of 6056017920, less 2 x
  // 2949120.
  const double layer = (7214284800.0 - 1158266880.0) / 24, keys_and_values = 5898240.0;
  EXPECT_EQ(prefill_flops(preset_config("20b"), 512),
            7214284800.0 + 511 * (23 * layer + keys_and_values));
}

TEST(WorkModel, CountsTheBytesOfOneToken) {
  EXPECT_EQ(decode_weight_bytes(preset_config("20b"), 1, 4), 3708089088.0);
  EXPECT_EQ(decode_weight_bytes(preset_config("120b"), 1, 4), 5002907904.0);
}

TEST(WorkModel, CountsVisibleKeysByWindow) {
  const GptOssConfig config = preset_config("20b");
  // At position p full layers see p + 1 keys and sliding ones at most 128.
  for (const int64_t p : {0, 126, 127, 128, 131071}) {
    const double keys = 12.0 * static_cast<double>(p + 1) +
                        12.0 * static_cast<double>(std::min<int64_t>(p + 1, 128));
    EXPECT_EQ(decode_kv_bytes(config, p), 2048 * keys) << "position " << p;
    EXPECT_EQ(attention_flops(config, p, 1), 16384 * keys) << "position " << p;
  }
  // The last layer, a full one, attends for the last token only.
  EXPECT_EQ(attention_flops(config, 100, 60) + 16384 * 125.0,
            attention_flops(config, 100, 25) + attention_flops(config, 125, 35));
}

}  // namespace
}  // namespace moxie::cli
