// Compiles every function of mxfp4/ for the device: the headers promise host and device alike.
#include "mxfp4/block.h"

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

}  // namespace moxie::mxfp4
