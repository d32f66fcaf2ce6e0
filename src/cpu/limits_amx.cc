#include <immintrin.h>

#include "cpu/limits_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

// Four accumulators hide the latency of a product (52 cycles, a new one may start every 16).
float multiply_tiles(int64_t steps) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.bytes_per_row[i] = 64;
    config.rows[i] = 16;
  }
  alignas(64) uint16_t numbers[16][32];
  alignas(64) float sums[16][16];
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 32; ++j)  // bf16 between 0.5 and 1 of both signs
      numbers[i][j] =
          static_cast<uint16_t>(0x3f00 + (i * 37 + j * 11) % 128 + (i + j) % 2 * 0x8000);
  }
  _tile_loadconfig(&config);
  _tile_loadd(4, numbers, 64);
  _tile_loadd(5, numbers, 64);
  _tile_loadd(6, numbers, 64);
  _tile_loadd(7, numbers, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t step = 0; step < steps; ++step) {
    for (int round = 0; round < kRounds; ++round) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, 64);
  float result = sums[0][0];
  _tile_stored(1, sums, 64);
  result += sums[0][0];
  _tile_stored(2, sums, 64);
  result += sums[0][0];
  _tile_stored(3, sums, 64);
  result += sums[0][0];
  _tile_release();
  return result;
}

}  // namespace

LimitKernels limit_kernels_amx() {
  return {&read_memory<Avx512>, &multiply_tiles, int64_t{4} * kRounds * 2 * 16 * 16 * 32};
}

}  // namespace moxie::cpu
