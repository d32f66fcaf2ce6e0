// As AVX-512, with q . k by VDPBF16PS: products of bf16 pairs are exact and summed in float32, but
// subnormal inputs count as zero.
//
// Decode of gpt-oss's shape (8 heads of 64 to a kv head) has a loop of its own, because transposing
// keys for a single position costs as much as multiplying them: lanes are the 8 heads, so that a
// key's pairs are broadcast straight from the cache, and maxima and totals need no sum across
// lanes.
#include <cstring>

#include "cpu/attention_kernel.h"
#include "cpu/simd_avx512.h"

namespace moxie::cpu {
namespace {

struct Avx512Bf16 : Avx512 {
  static constexpr bool kPairDot = true;

  static Bits broadcast_pair(const bf16* pair) {
    int bits;
    std::memcpy(&bits, pair, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  static Float dot_pairs(Float sum, Bits a, Bits b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

using Generic = Attention<Avx512Bf16>;

constexpr int kHeads = 8, kDim = 64, kBlock = kAttentionBlock;
constexpr int kKeysAtOnce = 16;  // chains of sums: VDPBF16PS takes several cycles, two may start

// scores[key, head] of 16 keys that lie one after the other; q: [pair, head].
void score_keys(const uint32_t* q, const bf16* keys, const char*& ahead, float* scores) {
  __m256 sum[kKeysAtOnce];
  MOXIE_UNROLL
  for (int key = 0; key < kKeysAtOnce; ++key) sum[key] = _mm256_setzero_ps();
  for (int pair = 0; pair < kDim / 2; ++pair) {
    const __m256i heads = _mm256_load_si256(reinterpret_cast<const __m256i*>(q + pair * kHeads));
    _mm_prefetch(ahead, _MM_HINT_T0);
    ahead += 64;
    MOXIE_UNROLL
    for (int key = 0; key < kKeysAtOnce; ++key) {
      int bits;
      std::memcpy(&bits, keys + key * kDim + 2 * pair, sizeof bits);
      sum[key] = _mm256_dpbf16_ps(sum[key], (__m256bh)heads, (__m256bh)_mm256_set1_epi32(bits));
    }
  }
  MOXIE_UNROLL
  for (int key = 0; key < kKeysAtOnce; ++key) _mm256_store_ps(scores + key * kHeads, sum[key]);
}

__m512 twice(__m256 x) { return _mm512_insertf32x8(_mm512_castps256_ps512(x), x, 1); }

// Scores of keys [begin, end) to weights; returns the factors that earlier sums must be scaled by.
// Two keys share a vector: even keys its lower half.
__m256 softmax_keys(float* scores, int begin, int end, float scale, __m256& maximum,
                    __m512& total) {
  const __m512 scales = _mm512_set1_ps(scale), hidden = _mm512_set1_ps(-__builtin_inff());
  __m512 best = twice(maximum);
  for (int key = begin & ~1; key < end; key += 2) {
    const __mmask16 seen =
        static_cast<__mmask16>((key >= begin ? 0x00ff : 0) | (key + 1 < end ? 0xff00 : 0));
    __m512 x = _mm512_mul_ps(_mm512_load_ps(scores + key * kHeads), scales);
    x = _mm512_mask_mov_ps(hidden, seen, x);
    _mm512_store_ps(scores + key * kHeads, x);
    best = _mm512_max_ps(best, x);
  }
  const __m256 new_maximum =
      _mm256_max_ps(_mm512_castps512_ps256(best), _mm512_extractf32x8_ps(best, 1));
  const __m512 shift = twice(new_maximum);
  __m512 sum = _mm512_setzero_ps();
  for (int key = begin & ~1; key < end; key += 2) {
    const __m512 weight =
        exp2_approx<Avx512>(_mm512_sub_ps(_mm512_load_ps(scores + key * kHeads), shift));
    _mm512_store_ps(scores + key * kHeads, weight);
    sum = _mm512_add_ps(sum, weight);
  }
  const __m512 factor = exp2_approx<Avx512>(_mm512_sub_ps(twice(maximum), shift));
  maximum = new_maximum;
  total = _mm512_fmadd_ps(total, factor, sum);
  return _mm512_castps512_ps256(factor);
}

void attend_decode(const AttentionTile& tile) {
  if (tile.group != kHeads || tile.head_dim != kDim || tile.num_positions != 1)
    return Generic::attend(tile);
  const TileScratch parts = tile_scratch(1, kHeads, kDim);
  const bf16** value_rows = reinterpret_cast<const bf16**>(tile.scratch + parts.rows);
  bf16* copied_keys = reinterpret_cast<bf16*>(tile.scratch + parts.keys);
  float* scores = reinterpret_cast<float*>(tile.scratch + parts.scores);
  float* sums = reinterpret_cast<float*>(tile.scratch + parts.sums);
  uint32_t* q = reinterpret_cast<uint32_t*>(tile.scratch + parts.q);
  for (int head = 0; head < kHeads; ++head) {
    for (int pair = 0; pair < kDim / 2; ++pair)
      std::memcpy(&q[pair * kHeads + head], tile.q + head * kDim + 2 * pair, 4);
  }
  for (int i = 0; i < kHeads * kDim; ++i) sums[i] = 0;
  alignas(32) float lanes[kHeads];
  for (int head = 0; head < kHeads; ++head)
    lanes[head] = tile.partial ? kLowest : first_maximum(tile.sinks[head]);
  __m256 maximum = _mm256_load_ps(lanes);
  for (int head = 0; head < kHeads; ++head)
    lanes[head] = tile.partial ? 0.0f : first_total(tile.sinks[head]);
  __m512 total = _mm512_zextps256_ps512(_mm256_load_ps(lanes));

  const KeySpan span = keys_of(tile, tile.first_position);
  for (int64_t block = span.begin / kBlock * kBlock; block < span.end; block += kBlock) {
    const int begin = block < span.begin ? static_cast<int>(span.begin - block) : 0;
    const int end = block + kBlock > span.end ? static_cast<int>(span.end - block) : kBlock;
    const int64_t first_slot = (block + begin) % tile.capacity;
    const bool more = block + kBlock < span.end;
    // Sixteen keys are read at once, so they must lie together and be there.
    const bool whole = begin == 0 && end == kBlock && first_slot + kBlock <= tile.capacity;
    const bf16* keys = tile.k + first_slot * kDim;
    int64_t slot = first_slot;
    for (int i = begin; i < end; ++i) {
      value_rows[i] = tile.v + slot * kDim;
      if (!whole) std::memcpy(copied_keys + i * kDim, tile.k + slot * kDim, kDim * sizeof(bf16));
      if (++slot == tile.capacity) slot = 0;
    }
    const char* ahead = reinterpret_cast<const char*>(keys + (more ? kBlock * kDim : 0));
    if (!whole) keys = copied_keys;
    for (int key = begin / kKeysAtOnce * kKeysAtOnce; key < end; key += kKeysAtOnce)
      score_keys(q, keys + key * kDim, ahead, scores + key * kHeads);
    const __m256 factor = softmax_keys(scores, begin, end, tile.sm_scale * kLog2E, maximum, total);
    if (_mm256_cmp_ps_mask(factor, _mm256_set1_ps(1.0f), _CMP_NEQ_UQ) != 0) {
      _mm256_store_ps(lanes, factor);
      for (int i = 0; i < kHeads * kDim; i += 16) {
        const __m512 scaled =
            _mm512_mul_ps(_mm512_load_ps(sums + i), _mm512_set1_ps(lanes[i / kDim]));
        _mm512_store_ps(sums + i, scaled);
      }
    }
    Generic::add_values<kHeads, 1, kHeads>(scores, value_rows, begin, end, kDim, sums,
                                           more ? kBlock * kDim : 0);
  }

  alignas(32) float totals[kHeads];
  _mm256_store_ps(lanes, maximum);
  _mm256_store_ps(totals,
                  _mm256_add_ps(_mm512_castps512_ps256(total), _mm512_extractf32x8_ps(total, 1)));
  for (int head = 0; head < kHeads; ++head) {
    if (tile.partial == nullptr) {
      Generic::store_row(sums + head * kDim, totals[head], kDim, tile.out + head * kDim);
      continue;
    }
    tile.partial[head] = lanes[head];
    tile.partial[kHeads + head] = totals[head];
  }
  if (tile.partial != nullptr)
    std::memcpy(tile.partial + 2 * kHeads, sums, kHeads * kDim * sizeof(float));
}

}  // namespace

AttentionKernels attention_kernels_avx512_bf16() {
  AttentionKernels kernels = Generic::kernels();
  kernels.attend_decode = &attend_decode;
  return kernels;
}

}  // namespace moxie::cpu
