#include "convert/repack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

namespace moxie {
namespace {

using mxfp4::kBlock;
using mxfp4::kBlockBytes;

// IEEE binary16, exact in float.
float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u, mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

size_t element_bytes(SourceElement element) { return element == SourceElement::kF32 ? 4 : 2; }

// Columns handled together, so that the transposed side is touched a cache line or two at a time.
constexpr int64_t kTile = 64;

}  // namespace

void widen(const uint8_t* in, SourceElement element, int64_t count, float* out) {
  if (element == SourceElement::kF32) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, in + 2 * i, sizeof bits);
    out[i] = element == SourceElement::kBF16 ? to_float(bf16{bits}) : half_to_float(bits);
  }
}

void dequantize_transposed(const DequantizeTransposedArgs& args, ThreadPool& pool) {
  const int64_t blocks = args.k / kBlock, tiles = (args.n + kTile - 1) / kTile;
  pool.parallel_for(static_cast<int>(tiles), [&](int tile, int) {
    const int64_t n_begin = tile * kTile, n_end = std::min(args.n, n_begin + kTile);
    bf16 decoded[kTile][kBlock];
    for (int64_t k = args.k_begin; k < args.k_end; k += kBlock) {
      for (int64_t n = n_begin; n < n_end; ++n) {
        const int64_t block = n * blocks + k / kBlock;
        mxfp4::decode_row(args.codes + block * kBlockBytes, args.scales + block, kBlock,
                          decoded[n - n_begin]);
      }
      for (int64_t t = 0; t < kBlock; ++t) {
        bf16* row = args.out + (k - args.k_begin + t) * args.n;
        for (int64_t n = n_begin; n < n_end; ++n) row[n] = decoded[n - n_begin][t];
      }
    }
  });
}

bool quantize_transposed(const QuantizeTransposedArgs& args, ThreadPool& pool) {
  const int64_t blocks = args.k / kBlock, rows = args.n_end - args.n_begin;
  const int64_t tiles = (rows + kTile - 1) / kTile;
  const size_t stride = static_cast<size_t>(args.n) * element_bytes(args.element);
  constexpr uint8_t kFirstOverflowing = 253;
  std::atomic<bool> good{true};
  pool.parallel_for(static_cast<int>(tiles), [&](int tile, int) {
    const int64_t begin = tile * kTile, end = std::min(rows, begin + kTile);
    float row[kTile];
    float columns[kTile][kBlock];
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t t = 0; t < kBlock; ++t) {
        const uint8_t* source =
            args.in + static_cast<size_t>(block * kBlock + t) * stride +
            static_cast<size_t>(args.n_begin + begin) * element_bytes(args.element);
        widen(source, args.element, end - begin, row);
        for (int64_t n = 0; n < end - begin; ++n) columns[n][t] = row[n];
      }
      bool finite = true;
      for (int64_t n = 0; n < end - begin; ++n) {
        for (int64_t t = 0; t < kBlock; ++t) finite &= std::isfinite(columns[n][t]);
        const int64_t place = (begin + n) * blocks + block;
        mxfp4::encode_row(columns[n], kBlock, args.rule, args.codes + place * kBlockBytes,
                          args.scales + place);
        finite &= args.scales[place] < kFirstOverflowing;
      }
      if (!finite) good.store(false, std::memory_order_relaxed);
    }
  });
  return good.load();
}

}  // namespace moxie
