// wgmma with e5m2 weights as operand A in registers and e4m3 activations as operand B in shared
// memory. Fragments as in wgmma.cuh, A [64, 32] with four k in a register: with lane = 4 * g + t,
// a[0] and a[1] are k = 4t .. 4t + 3 of rows g and g + 8, a[2] and a[3] k = 16 + 4t .. of them.
#pragma once

#include <cstdint>

#include "hopper/device/wgmma.cuh"
#include "hopper/device/wgmma_widths.cuh"

namespace moxie::hopper {

// Operand B [N, 64] in e4m3, k contiguous: rows of 64 bytes from a 512-byte aligned address, the
// 16-byte piece c of row r at place c ^ (r / 2 % 4). Adding 2 moves on by 32 of k.
__device__ __forceinline__ uint64_t swizzled_operand_64(uint32_t shared) {
  constexpr uint64_t kSwizzle64 = uint64_t{2} << 62, kEightRows = uint64_t{512 / 16} << 32;
  return ((shared & 0x3ffffu) >> 4) | uint64_t{1} << 16 | kEightRows | kSwizzle64;
}

// c += a * b; a is 32 of k, b 32 of k of N rows.
template <int N>
__device__ __forceinline__ void wgmma_m64k32(float (&c)[N / 2], const uint32_t* a, uint64_t b);

#define MOXIE_WGMMA(N, C, A, B, ...)                                                             \
  template <>                                                                                    \
  __device__ __forceinline__ void wgmma_m64k32<N>(float(&c)[N / 2], const uint32_t* a,           \
                                                  uint64_t b) {                                  \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k32.f32.e5m2.e4m3 {" C "}, {" A "}, " B \
                 ", 1, 1, 1;"                                                                    \
                 : __VA_ARGS__                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
  }
MOXIE_WGMMA_WIDTHS(MOXIE_WGMMA)
#undef MOXIE_WGMMA

}  // namespace moxie::hopper
