// AMX tiles as tile_strips.h wants them. For *_amx.cc files only (empty elsewhere).
#pragma once
#ifdef __AMX_BF16__

#include <immintrin.h>

#include <cstdint>

namespace moxie::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// A constant, because the compiler does not know that LDTILECFG reads all 64 bytes.
constexpr TileConfig kTileConfig;

// The intrinsics want literal tile numbers: these are the ones in use.
struct AmxTiles {
  void configure() { _tile_loadconfig(&kTileConfig); }
  void release() { _tile_release(); }

  template <int kTile>
  [[gnu::always_inline]] void zero() {
    static_assert(kTile < 6);
    if constexpr (kTile == 0) _tile_zero(0);
    if constexpr (kTile == 1) _tile_zero(1);
    if constexpr (kTile == 2) _tile_zero(2);
    if constexpr (kTile == 3) _tile_zero(3);
    if constexpr (kTile == 4) _tile_zero(4);
    if constexpr (kTile == 5) _tile_zero(5);
  }
  template <int kTile>
  [[gnu::always_inline]] void load(const void* p, int64_t stride) {
    // GCC's intrinsics do not say that they read memory: what was stored must be there by now.
    __asm__ volatile("" ::: "memory");
    if constexpr (kTile == 0) _tile_loadd(0, p, stride);
    if constexpr (kTile == 1) _tile_loadd(1, p, stride);
    if constexpr (kTile == 2) _tile_loadd(2, p, stride);
    if constexpr (kTile == 3) _tile_loadd(3, p, stride);
    if constexpr (kTile == 4) _tile_loadd(4, p, stride);
    if constexpr (kTile == 5) _tile_loadd(5, p, stride);
    if constexpr (kTile == 6) _tile_loadd(6, p, stride);
    if constexpr (kTile == 7) _tile_loadd(7, p, stride);
  }
  template <int kTile>
  [[gnu::always_inline]] void load_passing(const void* p, int64_t stride) {
    static_assert(kTile == 6 || kTile == 7);
    __asm__ volatile("" ::: "memory");
    if constexpr (kTile == 6) _tile_stream_loadd(6, p, stride);
    if constexpr (kTile == 7) _tile_stream_loadd(7, p, stride);
  }
  template <int kTile>
  [[gnu::always_inline]] void store(void* p, int64_t stride) {
    static_assert(kTile < 7);
    if constexpr (kTile == 0) _tile_stored(0, p, stride);
    if constexpr (kTile == 1) _tile_stored(1, p, stride);
    if constexpr (kTile == 2) _tile_stored(2, p, stride);
    if constexpr (kTile == 3) _tile_stored(3, p, stride);
    if constexpr (kTile == 4) _tile_stored(4, p, stride);
    if constexpr (kTile == 5) _tile_stored(5, p, stride);
    if constexpr (kTile == 6) _tile_stored(6, p, stride);
  }
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void dot() {
    static_assert((kC < 5 && kA == 5 && kB == 7) || (kC < 6 && kA == 6 && kB == 7) ||
                  (kC == 1 && kA == 5 && kB == 6) ||
                  (kC < 4 && kA == 4 + kC / 2 && kB == 6 + kC % 2));
    if constexpr (kC == 0 && kA == 4 && kB == 6) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kC == 0 && kA == 5 && kB == 7) _tile_dpbf16ps(0, 5, 7);
    if constexpr (kC == 0 && kA == 6 && kB == 7) _tile_dpbf16ps(0, 6, 7);
    if constexpr (kC == 1 && kA == 4 && kB == 7) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kC == 1 && kA == 5 && kB == 6) _tile_dpbf16ps(1, 5, 6);
    if constexpr (kC == 1 && kA == 5 && kB == 7) _tile_dpbf16ps(1, 5, 7);
    if constexpr (kC == 1 && kA == 6 && kB == 7) _tile_dpbf16ps(1, 6, 7);
    if constexpr (kC == 2 && kA == 5 && kB == 6) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kC == 2 && kA == 5 && kB == 7) _tile_dpbf16ps(2, 5, 7);
    if constexpr (kC == 2 && kA == 6 && kB == 7) _tile_dpbf16ps(2, 6, 7);
    if constexpr (kC == 3 && kA == 5 && kB == 7) _tile_dpbf16ps(3, 5, 7);
    if constexpr (kC == 3 && kA == 6 && kB == 7) _tile_dpbf16ps(3, 6, 7);
    if constexpr (kC == 4 && kA == 5 && kB == 7) _tile_dpbf16ps(4, 5, 7);
    if constexpr (kC == 4 && kA == 6 && kB == 7) _tile_dpbf16ps(4, 6, 7);
    if constexpr (kC == 5 && kA == 6 && kB == 7) _tile_dpbf16ps(5, 6, 7);
  }
};

}  // namespace
}  // namespace moxie::cpu

#endif
