// MXFP4 dot products of decode in AVX-512 BF16.
//
// A block by itself takes three 64-byte loads (its codes in every lane, the table of its scale, the
// activations), and they are the limit: AMD's Zen 4 loads 64 bytes in a cycle. So four blocks are
// taken together, 64 bytes of codes as they lie: code i % 4 of each 16-bit word is looked up after
// a shift by 4 (i % 4) in the one table of unscaled values, which stays in a register, and sums of
// the four products are scaled behind them. Lanes 4 b .. 4 b + 3 of a sum belong to block b, so its
// scales are four powers of two, four lanes each.
//
// Activations are laid out alike (group order): 32-bit lane l of vector i has elements 8 l + i and
// 8 l + 4 + i of 128, i = 0 .. 3.
//
// Codes are one sequential stream, and AMD's processors fetch ahead in those by themselves: telling
// them does not help, and several streams (weight rows that share the loads of activations) lose
// from memory what they gain in cache.
//
// What is scaled behind the product could flush or overflow before it, where weights with the scale
// folded in would not. Such rows (activations of 2^121 and more, or below 2^-100 with large scales)
// and scales with rules of their own (0, 253 to 255) go the plain way, block by block. The choice
// depends on the activation row and the weight row alone, never on the batch.
#include <immintrin.h>

#include "cpu/matmul_avx512.h"
#include "cpu/matmul_avx512_bf16.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_lookup_avx512.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kGroupBlocks = 4, kGroupElements = 32 * kGroupBlocks;
constexpr int kScaledGroups = 4;     // side by side; their scales are loaded together
constexpr int64_t kCheckedRows = 8;  // weight rows whose scales are looked at together
constexpr int64_t kStep = kScaledGroups * kGroupBlocks;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

__m512 dot_pairs(__m512 sums, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

// --- a prepared row: groups, then the header ---

// Weight rows with scales 1 .. scale_max go by groups; 0: none does.
struct RowHeader {
  int32_t scale_max;
};

struct PreparedRow {
  const uint16_t* values;
  int32_t scale_max;

  PreparedRow(const void* memory, int64_t blocks) : values(static_cast<const uint16_t*>(memory)) {
    const auto* header = reinterpret_cast<const RowHeader*>(
        values + ceil_div(blocks, kGroupBlocks) * kGroupElements);
    scale_max = header->scale_max;
  }
};

// What a row's numbers allow. Magnitudes are compared as bits.
int32_t scale_max_of(__m512i largest, __m512i smallest) {
  constexpr uint16_t kTooLarge = (127 + 121) << 7, kTiny = (127 - 100) << 7;
  if (_mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(kTooLarge)) != 0) return 0;
  // Tiny products may be flushed to zero: as long as scales do not enlarge them, that is no more
  // than bf16 products do anyway.
  return _mm512_cmplt_epu16_mask(smallest, _mm512_set1_epi16(kTiny)) != 0 ? 127 : 252;
}

// --- products ---

// Sixteen scales as powers of two: 32-bit element 4 b + i is of block b of group i.
__m512 spread_scales(__m128i sixteen) {
  // Byte 4 i + b to the upper byte, then to the exponent.
  const __m512i order =
      _mm512_set_epi32(0x0fffffff, 0x0bffffff, 0x07ffffff, 0x03ffffff, 0x0effffff, 0x0affffff,
                       0x06ffffff, 0x02ffffff, 0x0dffffff, 0x09ffffff, 0x05ffffff, 0x01ffffff,
                       0x0cffffff, 0x08ffffff, 0x04ffffff, 0x00ffffff);
  const __m512i upper = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), order);
  return _mm512_castsi512_ps(_mm512_srli_epi32(upper, 1));
}

// One weight row by kRows activation rows. Four groups side by side, as a product waits six cycles
// for the sum before it. The order of additions is the same for all kRows.
template <int kRows>
struct Sums {
  __m512i table, words[kScaledGroups];
  __m512 groups[kScaledGroups][kRows], totals[kRows];

  // The products of code kIndex of each word.
  template <int kIndex, int kGroups>
  [[gnu::always_inline]] void add_index(const uint16_t* const* x, int64_t at) {
    for (int g = 0; g < kGroups; ++g) {
      const __m512i index = kIndex == 0 ? words[g] : _mm512_srli_epi16(words[g], 4 * kIndex);
      const __m512i weights = _mm512_permutexvar_epi16(index, table);
      for (int r = 0; r < kRows; ++r) {
        const __m512 before = kIndex == 0 ? _mm512_setzero_ps() : groups[g][r];
        groups[g][r] = dot_pairs(before, weights,
                                 _mm512_load_si512(x[r] + at + g * kGroupElements + 32 * kIndex));
      }
    }
  }
  template <int kGroup>
  [[gnu::always_inline]] void add_scaled(__m512 scales) {
    const __m512 scale = _mm512_permute_ps(scales, 0x55 * kGroup);
    for (int r = 0; r < kRows; ++r)
      totals[r] = _mm512_fmadd_ps(groups[kGroup][r], scale, totals[r]);
  }
  // kGroups groups whose words are loaded.
  template <int kGroups>
  [[gnu::always_inline]] void add(__m512 scales, const uint16_t* const* x, int64_t at) {
    add_index<0, kGroups>(x, at);
    add_index<1, kGroups>(x, at);
    add_index<2, kGroups>(x, at);
    add_index<3, kGroups>(x, at);
    add_scaled<0>(scales);
    if constexpr (kGroups > 1) add_scaled<1>(scales);
    if constexpr (kGroups > 2) add_scaled<2>(scales);
    if constexpr (kGroups > 3) add_scaled<3>(scales);
  }
};

// The blocks of a row behind the last kStep: what is missing to a whole group counts as zeros,
// codes and scales.
struct Rest {
  int64_t groups;
  __mmask16 scales;
  __mmask8 codes[kScaledGroups];  // halves of blocks

  explicit Rest(int64_t blocks) : groups((blocks + kGroupBlocks - 1) / kGroupBlocks) {
    scales = static_cast<__mmask16>((1u << blocks) - 1);
    for (int g = 0; g < kScaledGroups; ++g)
      codes[g] = static_cast<__mmask8>(((uint32_t{1} << (2 * blocks)) - 1) >> (8 * g));
  }
};

template <int kRows>
[[gnu::always_inline]] inline void dot_groups(const uint8_t* codes, const uint8_t* scales,
                                              int64_t blocks, const Rest& rest,
                                              const uint16_t* const* x, float* z,
                                              int64_t z_stride) {
  Sums<kRows> sums;
  sums.table = _mm512_load_si512(kMxfp4Bf16.bits[127]);
  for (int r = 0; r < kRows; ++r) sums.totals[r] = _mm512_setzero_ps();
  int64_t b = 0;
  for (; b + kStep <= blocks; b += kStep) {
    for (int g = 0; g < kScaledGroups; ++g) {
      __m512i words = _mm512_loadu_si512(codes + (b + g * kGroupBlocks) * 16);
      // g++ would load them again for each of the shifts, and loads are what there are too many of.
      asm("" : "+v"(words));
      sums.words[g] = words;
    }
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + b));
    sums.template add<kScaledGroups>(spread_scales(sixteen), x, b * 32);
  }
  if (rest.groups > 0) {
    const __m512 last = spread_scales(_mm_maskz_loadu_epi8(rest.scales, scales + b));
    for (int g = 0; g < kScaledGroups; ++g)
      sums.words[g] = _mm512_maskz_loadu_epi64(rest.codes[g], codes + (b + g * kGroupBlocks) * 16);
    switch (rest.groups) {
      case 1:
        sums.template add<1>(last, x, b * 32);
        break;
      case 2:
        sums.template add<2>(last, x, b * 32);
        break;
      case 3:
        sums.template add<3>(last, x, b * 32);
        break;
      default:
        sums.template add<4>(last, x, b * 32);
    }
  }
  for (int r = 0; r < kRows; ++r) z[r * z_stride] = _mm512_reduce_add_ps(sums.totals[r]);
}

// One row in a call, for those that come one by one.
[[gnu::noinline]] void dot_groups_alone(const uint8_t* codes, const uint8_t* scales, int64_t blocks,
                                        const Rest& rest, const uint16_t* x, float* z) {
  dot_groups<1>(codes, scales, blocks, rest, &x, z, 0);
}

// The plain way: weights with their scale folded in.
float dot_blocks(const uint8_t* codes, const uint8_t* scales, int64_t blocks, const uint16_t* x) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    const auto* part = reinterpret_cast<const __m128i*>(x + b / 4 * kGroupElements + b % 4 * 8);
    __m512i values = _mm512_castsi128_si512(_mm_load_si128(part));
    values = _mm512_inserti32x4(values, _mm_load_si128(part + 4), 1);
    values = _mm512_inserti32x4(values, _mm_load_si128(part + 8), 2);
    values = _mm512_inserti32x4(values, _mm_load_si128(part + 12), 3);
    sum = dot_pairs(sum, decode_block(codes + b * 16, scales[b]), values);
  }
  return _mm512_reduce_add_ps(sum);
}

// Whether `count` scales are all 1 .. max.
bool scales_within(const uint8_t* scales, int64_t count, int32_t max) {
  if (max == 0) return false;
  const __m512i minus_one = _mm512_set1_epi8(-1);  // makes 255 of 0
  __m512i largest = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 64 <= count; i += 64)
    largest = _mm512_max_epu8(largest, _mm512_add_epi8(_mm512_loadu_si512(scales + i), minus_one));
  if (i < count) {
    const __mmask64 mask = (__mmask64{1} << (count - i)) - 1;
    largest =
        _mm512_mask_max_epu8(largest, mask, largest,
                             _mm512_add_epi8(_mm512_maskz_loadu_epi8(mask, scales + i), minus_one));
  }
  return _mm512_cmpge_epu8_mask(largest, _mm512_set1_epi8(static_cast<char>(max))) == 0;
}

template <int kRows>
void dot_rows(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
              const void* const* prepared, float* z, int64_t z_stride) {
  const int64_t blocks = k / 32;
  const Rest rest(blocks % kStep);
  const uint16_t* x[kRows];
  int32_t scale_max[kRows], common_max = 255;
  for (int r = 0; r < kRows; ++r) {
    const PreparedRow row(prepared[r], blocks);
    x[r] = row.values;
    scale_max[r] = row.scale_max;
    if (row.scale_max < common_max) common_max = row.scale_max;
  }
  for (int64_t first = 0; first < n; first += kCheckedRows) {
    const int64_t end = first + kCheckedRows < n ? first + kCheckedRows : n;
    const bool all_within =
        scales_within(scales + first * blocks, (end - first) * blocks, common_max);
    for (int64_t f = first; f < end; ++f) {
      const uint8_t* row_codes = codes + f * blocks * 16;
      const uint8_t* row_scales = scales + f * blocks;
      // Scales are too slow a stream for the processor to fetch ahead by itself.
      for (int64_t i = 0; i < blocks; i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(row_scales + kCheckedRows * blocks + i),
                     _MM_HINT_T0);
      if (all_within) {
        dot_groups<kRows>(row_codes, row_scales, blocks, rest, x, z + f, z_stride);
        continue;
      }
      for (int r = 0; r < kRows; ++r) {
        float* out = z + r * z_stride + f;
        if (scales_within(row_scales, blocks, scale_max[r]))
          dot_groups_alone(row_codes, row_scales, blocks, rest, x[r], out);
        else
          *out = dot_blocks(row_codes, row_scales, blocks, x[r]);
      }
    }
  }
}

}  // namespace

void prepare_mxfp4_avx512_bf16(const uint16_t* x, int64_t k, void* out) {
  auto* values = static_cast<uint16_t*>(out);
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  __m512i largest = _mm512_setzero_si512(), smallest = magnitude;
  int64_t i = 0;
  for (; i < k; i += kGroupElements) {
    __m512i blocks[kGroupBlocks];
    for (int b = 0; b < kGroupBlocks; ++b) {
      const bool is_there = i + 32 * b < k;
      const __m512i numbers =
          is_there ? _mm512_loadu_si512(x + i + 32 * b) : _mm512_setzero_si512();
      const __m512i bits = _mm512_and_si512(numbers, magnitude);
      largest = _mm512_max_epu16(largest, bits);
      smallest =
          _mm512_mask_min_epu16(smallest, _mm512_test_epi16_mask(bits, bits), smallest, bits);
      blocks[b] = to_lookup_order(numbers);
    }
    // Lane j of each block to vector j.
    const __m512i low01 = _mm512_shuffle_i32x4(blocks[0], blocks[1], 0x44);
    const __m512i low23 = _mm512_shuffle_i32x4(blocks[2], blocks[3], 0x44);
    const __m512i high01 = _mm512_shuffle_i32x4(blocks[0], blocks[1], 0xee);
    const __m512i high23 = _mm512_shuffle_i32x4(blocks[2], blocks[3], 0xee);
    _mm512_store_si512(values + i, _mm512_shuffle_i32x4(low01, low23, 0x88));
    _mm512_store_si512(values + i + 32, _mm512_shuffle_i32x4(low01, low23, 0xdd));
    _mm512_store_si512(values + i + 64, _mm512_shuffle_i32x4(high01, high23, 0x88));
    _mm512_store_si512(values + i + 96, _mm512_shuffle_i32x4(high01, high23, 0xdd));
  }
  const RowHeader header{scale_max_of(largest, smallest)};
  __builtin_memcpy(values + i, &header, sizeof(header));
}

void dot_mxfp4_avx512_bf16(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                           const void* const* x, int rows, float* z, int64_t z_stride) {
  switch (rows) {
    case 1:
      return dot_rows<1>(codes, scales, n, k, x, z, z_stride);
    case 2:
      return dot_rows<2>(codes, scales, n, k, x, z, z_stride);
    case 3:
      return dot_rows<3>(codes, scales, n, k, x, z, z_stride);
    default:
      return dot_rows<4>(codes, scales, n, k, x, z, z_stride);
  }
}

}  // namespace moxie::cpu
