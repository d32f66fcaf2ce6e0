// Compiles every function of mxfp4/ for the device: the headers promise host and device alike.
#include "mxfp4/weight_layout.h"

namespace moxie::mxfp4 {

static_assert(e2m1_from_float(e2m1_to_float(13)) == 13);

__global__ void encode_and_decode(const float* values, ScaleRule rule, uint8_t* codes,
                                  uint8_t* scales, float* decoded, bf16* decoded_bf16) {
  const unsigned block = threadIdx.x;
  encode_block(values + block * kBlock, rule, codes + block * kBlockBytes, scales + block);
  decode_block(codes + block * kBlockBytes, scales[block], decoded + block * kBlock);
  decode_block(codes + block * kBlockBytes, scales[block], decoded_bf16 + block * kBlock);
  decoded[block] += round_to_bf16(e8m0_reciprocal(scales[block]));
}

static_assert(strip_panel(64, 2880, 3, 4).blocks == kPanelBlocks);

__global__ void move_word(int64_t n, int64_t k, const uint32_t* words, const uint8_t* scales,
                          uint8_t* codes, uint8_t* scale) {
  const int t = static_cast<int>(threadIdx.x % 4);
  split_codes(words[code_word(n, k, blockIdx.x, blockIdx.y, t)], codes + threadIdx.x * 8);
  *scale = scales[scale_byte(n, k, blockIdx.x, blockIdx.y)];
}

}  // namespace moxie::mxfp4
