#include <immintrin.h>

#include "cpu/limits_kernel.h"
#include "cpu/simd_avx512.h"
#include "cpu/tile_amx.h"

namespace moxie::cpu {
namespace {

// Four accumulators hide the latency of a product (52 cycles, a new one may start every 16).
float multiply_tiles(int64_t steps) {
  alignas(64) uint16_t numbers[16][32];
  alignas(64) float sums[16][16];
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 32; ++j)  // bf16 between 0.5 and 1 of both signs
      numbers[i][j] =
          static_cast<uint16_t>(0x3f00 + (i * 37 + j * 11) % 128 + (i + j) % 2 * 0x8000);
  }
  AmxTiles tiles;
  tiles.configure();
  tiles.load<4>(numbers, 64);
  tiles.load<5>(numbers, 64);
  tiles.load<6>(numbers, 64);
  tiles.load<7>(numbers, 64);
  tiles.zero<0>();
  tiles.zero<1>();
  tiles.zero<2>();
  tiles.zero<3>();
  for (int64_t step = 0; step < steps; ++step) {
    for (int round = 0; round < kRounds; ++round) {
      tiles.dot<0, 4, 6>();
      tiles.dot<1, 4, 7>();
      tiles.dot<2, 5, 6>();
      tiles.dot<3, 5, 7>();
    }
  }
  tiles.store<0>(sums, 64);
  float result = sums[0][0];
  tiles.store<1>(sums, 64);
  result += sums[0][0];
  tiles.store<2>(sums, 64);
  result += sums[0][0];
  tiles.store<3>(sums, 64);
  result += sums[0][0];
  tiles.release();
  return result;
}

}  // namespace

LimitKernels limit_kernels_amx() {
  return {&read_memory<Avx512>, &multiply_tiles, int64_t{4} * kRounds * 2 * 16 * 16 * 32};
}

}  // namespace moxie::cpu
