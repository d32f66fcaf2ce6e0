// Where a panel of weights for AMX keeps its elements.
#pragma once

#include <cstdint>

namespace moxie::cpu {

// Blocks of 16 features by 32 elements lie whole, row after row: a tile is then 1 KiB in one piece,
// which the processor fetches ahead, and not 16 lines far apart. Element 32 * b of feature f;
// panel_stride: elements of a feature, a multiple of 32.
inline constexpr int64_t kTileFeatures = 16;
constexpr int64_t tile_panel_offset(int64_t f, int64_t b, int64_t panel_stride) {
  return f / kTileFeatures * kTileFeatures * panel_stride + b * kTileFeatures * 32 +
         f % kTileFeatures * 32;
}

}  // namespace moxie::cpu
