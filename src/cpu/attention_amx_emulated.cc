// AMX's prefill attention on emulated tiles, for tests on machines without AMX.
#include "cpu/attention_tiles.h"
#include "cpu/simd_portable.h"
#include "cpu/tile_emulated.h"

namespace moxie::cpu {
namespace {

struct PortableVectors : PortableSimd<4> {
  static void split(Float x, bf16* high, bf16* low) {
    const Float upper = round_bf16(x);
    store_bf16(high, upper);
    store_bf16(low, round_bf16(sub(x, upper)));
  }
  static bool interleave(const bf16* a, const bf16* b, uint32_t* out) {
    bool numbers = true;
    for (int i = 0; i < 32; ++i) {
      out[i] = a[i].bits | uint32_t{b[i].bits} << 16;
      numbers = numbers && (a[i].bits & 0x7f80) != 0x7f80 && (b[i].bits & 0x7f80) != 0x7f80;
    }
    return numbers;
  }
};

}  // namespace

AttentionKernels attention_kernels_amx_emulated() {
  AttentionKernels kernels = attention_kernels_scalar(64);
  kernels.attend_prefill = &TiledAttention<PortableVectors, EmulatedTiles>::attend;
  return kernels;
}

}  // namespace moxie::cpu
