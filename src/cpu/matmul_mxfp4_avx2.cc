// MXFP4 dot products of decode in AVX2.
//
// Widening each weight to float32 and multiplying 8 at a time takes 15 vector instructions a block.
// Integers do with 12: a code is a small integer (twice its value, plus 12 to be unsigned), one
// byte shuffle looks up 32, and VPMADDUBSW multiplies 32 at a time with bytes of the activations.
//
// So prepare_mxfp4 writes an activation row as integers of 22 bits, relative to the largest number
// of each block of 32, in three signed digits: 8, 7 and 7 bits. Products and sums of 8 elements are
// exact, then become float32, are scaled (weight's scale and block's unit, both powers of two) and
// added. That is as good as sums in float32 are, whatever the numbers, because nothing is rounded
// away:
//
//   outliers    an element more than 2^13 below its block's largest may not fit; it is 0 among the
//               digits and stands in a list, whose few products are added one by one
//   floats      rows with infinity or NaN or too many outliers, short rows, weight rows with scales
//               of NaN or at the ends of the range take the plain way: float32, scaled by table
//
// Both choices depend on the activation row and the weight row alone, never on the batch.
#include <immintrin.h>

#include "cpu/matmul_avx2.h"
#include "cpu/matmul_kernels.h"
#include "cpu/mxfp4_tables.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kAheadBytes = 2048, kScalesAheadBytes = 512;  // of prefetch
constexpr int kDigits = 3;
constexpr int64_t kMinBlocks = 64;  // of rows worth it (and with room for digits and outliers)
constexpr int kMaxOutliers = 32;    // more take as long as the plain way

// --- a prepared row ---

// Digits of two blocks in the order in which codes are looked up: the even elements of the first
// block, those of the second, then the odd ones. offset: minus what the 12 in each code adds.
struct alignas(32) BlockPair {
  int8_t even[kDigits][32], odd[kDigits][32];  // the highest digit first
  int32_t offset[8];
};
struct Outlier {
  int32_t byte, shift, block;  // where its weight's code and scale are
  float value;
};
struct alignas(32) RowHeader {
  int32_t usable;
  int32_t num_outliers;
  int32_t exponent_min, exponent_max;
  int32_t scale_min, scale_max;  // weight rows may have
};

// float32 in kMxfp4Order first, then the rest; x_element_bytes is 8.
struct PreparedRow {
  float* values;
  BlockPair* pairs;
  int32_t* exponents;  // [groups of 8 blocks][blocks 0 2 4 6 1 3 5 7], << 23
  RowHeader* header;
  Outlier* outliers;  // up to kMaxOutliers

  PreparedRow(void* memory, int64_t blocks) {
    char* at = static_cast<char*>(memory);
    values = reinterpret_cast<float*>(at);
    at += blocks * 32 * 4;
    pairs = reinterpret_cast<BlockPair*>(at);
    at += (blocks + 1) / 2 * static_cast<int64_t>(sizeof(BlockPair));
    exponents = reinterpret_cast<int32_t*>(at);
    at += (blocks + 7) / 8 * 32;
    header = reinterpret_cast<RowHeader*>(at);
    at += sizeof(RowHeader);
    outliers = reinterpret_cast<Outlier*>(at);
  }
};

// --- preparing ---

__m256 widen_low(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
__m256 widen_high(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// Even codes in the lower half, odd ones in the upper half, 16 each; bytes become 16-bit bf16 by
// interleaving. Element order of the floats: this.
constexpr uint8_t kMxfp4Order[32] = {0,  4,  8,  12, 1,  5,  9,  13, 2,  6,  10,
                                     14, 3,  7,  11, 15, 16, 20, 24, 28, 17, 21,
                                     25, 29, 18, 22, 26, 30, 19, 23, 27, 31};

float widen(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

// The magnitude bits of the largest of 32 bf16 numbers (NaN above infinity).
int largest_magnitude(__m256i first, __m256i second) {
  const __m256i magnitude = _mm256_set1_epi16(0x7fff);
  const __m256i both =
      _mm256_max_epu16(_mm256_and_si256(first, magnitude), _mm256_and_si256(second, magnitude));
  const __m128i half =
      _mm_max_epu16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  const __m128i smallest = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(0x7fff)));
  return _mm_extract_epi16(smallest, 0) ^ 0x7fff;
}

// Takes the lowest digit, -63 .. 64, off each lane.
__m256i take_digit(__m256i& x) {
  const __m256i most = _mm256_set1_epi32(63);
  const __m256i digit =
      _mm256_sub_epi32(_mm256_and_si256(_mm256_add_epi32(x, most), _mm256_set1_epi32(127)), most);
  x = _mm256_srai_epi32(_mm256_sub_epi32(x, digit), 7);
  return digit;
}

// 16 + 16 lanes of 32 bits as bytes, in order.
__m256i pack_bytes(const __m256i* even, const __m256i* odd) {
  const __m256i e = _mm256_permute4x64_epi64(_mm256_packs_epi32(even[0], even[1]), 0xd8);
  const __m256i o = _mm256_permute4x64_epi64(_mm256_packs_epi32(odd[0], odd[1]), 0xd8);
  return _mm256_permute4x64_epi64(_mm256_packs_epi16(e, o), 0xd8);
}

struct Constants {
  __m256i ones = _mm256_set1_epi16(1), base = _mm256_set1_epi16(1 << 7);
  __m256i base_squared = _mm256_set1_epi16(1 << 14);
};

// The sums of 8 products of codes (as bytes) with integers, in each lane of 32 bits.
__m256i products(const Constants& c, __m256i even, __m256i odd, const BlockPair& x) {
  __m256i sums[kDigits];  // of 4 products of codes with digits, 16 bits each
  for (int d = 0; d < kDigits; ++d) {
    const auto* x_even = reinterpret_cast<const __m256i*>(x.even[d]);
    const auto* x_odd = reinterpret_cast<const __m256i*>(x.odd[d]);
    sums[d] = _mm256_add_epi16(_mm256_maddubs_epi16(even, _mm256_load_si256(x_even)),
                               _mm256_maddubs_epi16(odd, _mm256_load_si256(x_odd)));
  }
  const __m256i offset = _mm256_load_si256(reinterpret_cast<const __m256i*>(x.offset));
  const __m256i lowest = _mm256_add_epi32(_mm256_madd_epi16(sums[2], c.ones), offset);
  const __m256i middle = _mm256_madd_epi16(sums[1], c.base);
  const __m256i highest = _mm256_madd_epi16(sums[0], c.base_squared);
  return _mm256_add_epi32(_mm256_add_epi32(lowest, middle), highest);
}

// The digits of block b; false if they cannot be made.
bool prepare_block(const uint16_t* x, int64_t b, PreparedRow& row) {
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 16));
  const int largest = largest_magnitude(first, second);
  if (largest >= 0x7f80) return false;
  // Units of 2^(exponent - 20): the largest is below 2^21. Tiny blocks have the smallest unit whose
  // inverse is a normal number.
  int biased = largest >> 7;
  if (biased < 20) biased = 20;
  const __m256 units = _mm256_castsi256_ps(_mm256_set1_epi32((274 - biased) << 23));
  const __m256 numbers[4] = {widen_low(first), widen_low(second), widen_high(first),
                             widen_high(second)};
  __m256i integers[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 wanted = _mm256_mul_ps(numbers[i], units);
    integers[i] = _mm256_cvttps_epi32(wanted);
    const __m256 fits = _mm256_cmp_ps(_mm256_cvtepi32_ps(integers[i]), wanted, _CMP_EQ_OQ);
    integers[i] = _mm256_and_si256(integers[i], _mm256_castps_si256(fits));
    int missing = 255 & ~_mm256_movemask_ps(fits);
    for (; missing != 0; missing &= missing - 1) {
      if (row.header->num_outliers == kMaxOutliers) return false;
      const int at = 16 * (i & 1) + 2 * __builtin_ctz(static_cast<unsigned>(missing)) + i / 2;
      row.outliers[row.header->num_outliers++] = {.byte = static_cast<int32_t>(b * 16) + at / 2,
                                                  .shift = at % 2 * 4,
                                                  .block = static_cast<int32_t>(b),
                                                  .value = widen(x[at])};
    }
  }
  BlockPair& pair = row.pairs[b / 2];
  for (int d = kDigits - 1; d >= 0; --d) {
    __m256i digits[4];
    for (int i = 0; i < 4; ++i) digits[i] = d > 0 ? take_digit(integers[i]) : integers[i];
    const __m256i bytes = pack_bytes(digits, digits + 2);
    _mm_store_si128(reinterpret_cast<__m128i*>(pair.even[d] + b % 2 * 16),
                    _mm256_castsi256_si128(bytes));
    _mm_store_si128(reinterpret_cast<__m128i*>(pair.odd[d] + b % 2 * 16),
                    _mm256_extracti128_si256(bytes, 1));
  }
  // A product's exponent, biased: scale - 127, -1 because codes count halves, the unit, and 127. A
  // block of zeros may have any.
  const int exponent = largest == 0 ? 0 : biased - 127 - 21;
  RowHeader& header = *row.header;
  if (b == 0 || exponent < header.exponent_min) header.exponent_min = exponent;
  if (b == 0 || exponent > header.exponent_max) header.exponent_max = exponent;
  row.exponents[b / 8 * 8 + b % 2 * 4 + b % 8 / 2] = exponent * (1 << 23);
  return true;
}

bool prepare_integers(const uint16_t* x, int64_t blocks, PreparedRow& row) {
  *row.header = {};
  // Blocks behind the last one: digits of 0, and with a scale of 0 some finite number.
  if (blocks % 2 != 0) row.pairs[blocks / 2] = {};
  for (int64_t b = blocks / 8 * 8; b < (blocks + 7) / 8 * 8; ++b) row.exponents[b] = 127 << 23;
  for (int64_t b = 0; b < blocks; ++b)
    if (!prepare_block(x + b * 32, b, row)) return false;
  const Constants constants;
  const __m256i twelve = _mm256_set1_epi8(12);
  for (int64_t p = 0; p < (blocks + 1) / 2; ++p) {
    auto* offset = reinterpret_cast<__m256i*>(row.pairs[p].offset);
    _mm256_store_si256(offset, _mm256_setzero_si256());
    const __m256i sum = products(constants, twelve, twelve, row.pairs[p]);
    _mm256_store_si256(offset, _mm256_sub_epi32(_mm256_setzero_si256(), sum));
  }
  // Every scale times the smallest and largest unit must be a normal number, no weight clamped.
  RowHeader& header = *row.header;
  header.scale_min = header.exponent_min < 1 ? 1 - header.exponent_min : 0;
  header.scale_max = header.exponent_max > 2 ? 254 - header.exponent_max : 252;
  return header.scale_min <= header.scale_max;
}

// --- multiplying ---

float reduce(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// One weight row in float32 with kRows activation rows; the scale is folded into the table.
template <int kRows>
void dot_floats(const uint8_t* codes, const uint8_t* scales, int64_t blocks,
                const PreparedRow* rows, float* totals) {
  __m256 sums[kRows][4];
  const float* x[kRows];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < 4; ++i) sums[r][i] = _mm256_setzero_ps();
    x[r] = rows[r].values;
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const uint8_t* at = codes + b * 16;
    if (b % 4 == 0) _mm_prefetch(reinterpret_cast<const char*>(at) + kAheadBytes, _MM_HINT_T0);
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m256i index =
        _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs), _mm256_set1_epi8(15));
    const auto* table = reinterpret_cast<const __m128i*>(kMxfp4Bytes.bytes[scales[b]]);
    const __m256i low =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(table)), index);
    const __m256i high =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(table + 1)), index);
    const __m256i first = _mm256_unpacklo_epi8(low, high);
    const __m256i second = _mm256_unpackhi_epi8(low, high);
    const __m256 weights[4] = {widen_low(first), widen_high(first), widen_low(second),
                               widen_high(second)};
    for (int i = 0; i < 4; ++i)
      for (int r = 0; r < kRows; ++r)
        sums[r][i] = _mm256_fmadd_ps(weights[i], _mm256_load_ps(x[r] + b * 32 + 8 * i), sums[r][i]);
  }
  for (int r = 0; r < kRows; ++r)
    totals[r] = reduce(_mm256_add_ps(_mm256_add_ps(sums[r][0], sums[r][1]),
                                     _mm256_add_ps(sums[r][2], sums[r][3])));
}

// One weight row with kRows activation rows.
template <int kRows>
struct DotIntegers {
  const uint8_t *codes, *scales;
  int64_t blocks;
  const PreparedRow* rows;

  Constants constants;
  // Twice the value plus 12, by code.
  __m256i table = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  __m256i nibble = _mm256_set1_epi8(15);
  __m256 sums[kRows], factors[kRows];

  // The factors of a group of 8 blocks: 0 2 4 6, then 1 3 5 7.
  void set_factors(__m128i eight, int64_t b) {
    const __m256i to_top = _mm256_setr_epi8(-1, -1, -1, 0, -1, -1, -1, 2, -1, -1, -1, 4,  //
                                            -1, -1, -1, 6, -1, -1, -1, 1, -1, -1, -1, 3,  //
                                            -1, -1, -1, 5, -1, -1, -1, 7);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_broadcastq_epi64(eight), to_top);
    const __m256i exponents = _mm256_srli_epi32(spread, 1);
    for (int r = 0; r < kRows; ++r) {
      const auto* more = reinterpret_cast<const __m256i*>(rows[r].exponents + b);
      factors[r] = _mm256_castsi256_ps(_mm256_add_epi32(exponents, _mm256_load_si256(more)));
    }
  }
  // Blocks b + 2 kPair and the one after it, b being the first of the group.
  template <int kPair>
  void add(__m256i pairs, int64_t b) {
    const __m256i even = _mm256_shuffle_epi8(table, _mm256_and_si256(pairs, nibble));
    const __m256i odd =
        _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble));
    for (int r = 0; r < kRows; ++r) {
      const BlockPair& x = rows[r].pairs[b / 2 + kPair];
      const __m256i sum = products(constants, even, odd, x);
      sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum),
                                _mm256_permute_ps(factors[r], 0x55 * kPair), sums[r]);
    }
  }
  template <int kPair>
  void add_rest(int64_t b) {
    const auto* at = reinterpret_cast<const __m256i*>(codes + b * 16) + kPair;
    if (b + 2 * kPair + 2 <= blocks)
      add<kPair>(_mm256_loadu_si256(at), b);
    else if (b + 2 * kPair < blocks)
      add<kPair>(_mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))), b);
  }

  void run(float* totals) {
    for (int r = 0; r < kRows; ++r) sums[r] = _mm256_setzero_ps();
    int64_t b = 0;
    for (; b + 8 <= blocks; b += 8) {
      const auto* at = reinterpret_cast<const __m256i*>(codes + b * 16);
      _mm_prefetch(reinterpret_cast<const char*>(at) + kAheadBytes, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(at) + kAheadBytes + 64, _MM_HINT_T0);
      set_factors(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + b)), b);
      add<0>(_mm256_loadu_si256(at), b);
      add<1>(_mm256_loadu_si256(at + 1), b);
      add<2>(_mm256_loadu_si256(at + 2), b);
      add<3>(_mm256_loadu_si256(at + 3), b);
    }
    if (b < blocks) {
      // The last 8 scales without those of the group before.
      uint64_t last;
      __builtin_memcpy(&last, scales + blocks - 8, 8);
      set_factors(_mm_cvtsi64_si128(static_cast<int64_t>(last >> (8 * (8 - (blocks - b))))), b);
      add_rest<0>(b);
      add_rest<1>(b);
      add_rest<2>(b);
      add_rest<3>(b);
    }
    for (int r = 0; r < kRows; ++r) totals[r] = reduce(sums[r]) + outliers(rows[r]);
  }
  float outliers(const PreparedRow& row) const {
    float sum = 0;
    for (int64_t i = 0; i < row.header->num_outliers; ++i) {
      const Outlier& outlier = row.outliers[i];
      const int code = codes[outlier.byte] >> outlier.shift & 15;
      sum += kMxfp4Float.values[scales[outlier.block]][code] * outlier.value;
    }
    return sum;
  }
};

template <int kRows>
void dot_integers(const uint8_t* codes, const uint8_t* scales, int64_t blocks,
                  const PreparedRow* rows, float* totals) {
  DotIntegers<kRows> dot;
  dot.codes = codes;
  dot.scales = scales;
  dot.blocks = blocks;
  dot.rows = rows;
  dot.run(totals);
}

// Whether a weight row's scales are such that digits can be used.
bool fits(const RowHeader& header, const uint8_t* scales, int64_t blocks) {
  const __m256i min = _mm256_set1_epi8(static_cast<char>(header.scale_min));
  const __m256i width = _mm256_set1_epi8(static_cast<char>(header.scale_max - header.scale_min));
  __m256i beyond = _mm256_setzero_si256();
  for (int64_t b = 0; b < blocks; b += 32) {
    const int64_t at = b + 32 <= blocks ? b : blocks - 32;
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + at));
    beyond = _mm256_or_si256(beyond, _mm256_subs_epu8(_mm256_sub_epi8(x, min), width));
  }
  return _mm256_testz_si256(beyond, beyond) != 0;
}

}  // namespace

void prepare_mxfp4_avx2(const uint16_t* x, int64_t k, void* out) {
  const int64_t blocks = k / 32;
  PreparedRow row(out, blocks);
  for (int64_t i = 0; i < k; i += 32)
    for (int j = 0; j < 32; ++j) row.values[i + j] = widen(x[i + kMxfp4Order[j]]);
  if (blocks >= kMinBlocks) {
    const bool usable = prepare_integers(x, blocks, row);
    row.header->usable = usable ? 1 : 0;
  }
}

// Pairs of activation rows over all weight rows: those of four would not fit into L1.
void dot_mxfp4_avx2(const uint8_t* codes, const uint8_t* scales, int64_t n, int64_t k,
                    const void* const* x, int rows, float* z, int64_t z_stride) {
  const int64_t blocks = k / 32;
  for (int first = 0; first < rows; first += 2) {
    const bool both = first + 2 <= rows;
    const PreparedRow prepared[2] = {PreparedRow(const_cast<void*>(x[first]), blocks),
                                     PreparedRow(const_cast<void*>(x[first + both]), blocks)};
    for (int64_t f = 0; f < n; ++f) {
      const uint8_t* row_codes = codes + f * blocks * 16;
      const uint8_t* row_scales = scales + f * blocks;
      float totals[2];
      bool integers[2] = {false, false};
      if (blocks >= kMinBlocks) {
        for (int64_t i = 0; i < blocks; i += 64)
          _mm_prefetch(reinterpret_cast<const char*>(row_scales + i) + kScalesAheadBytes,
                       _MM_HINT_T0);
        for (int r = 0; r <= both; ++r)
          integers[r] = prepared[r].header->usable && fits(*prepared[r].header, row_scales, blocks);
      }
      if (both && integers[0] == integers[1]) {
        if (integers[0])
          dot_integers<2>(row_codes, row_scales, blocks, prepared, totals);
        else
          dot_floats<2>(row_codes, row_scales, blocks, prepared, totals);
      } else {
        for (int r = 0; r <= both; ++r) {
          if (integers[r])
            dot_integers<1>(row_codes, row_scales, blocks, prepared + r, totals + r);
          else
            dot_floats<1>(row_codes, row_scales, blocks, prepared + r, totals + r);
        }
      }
      for (int r = 0; r <= both; ++r) z[(first + r) * z_stride + f] = totals[r];
    }
  }
}

}  // namespace moxie::cpu
