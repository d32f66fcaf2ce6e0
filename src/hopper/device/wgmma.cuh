// WGMMA with the weight as operand A in registers and activations as operand B in shared memory,
// and what a kernel of producer and math warps needs beside ptx.cuh.
//
// Fragments, with lane = 4 * g + t of warp w of the warpgroup: A [64, 16] as in mma_m16n8k16 for
// rows 16 * w ..; D [64, N]: c[4 * j + 0 .. 3] are (g, 8j + 2t), (g, 8j + 2t + 1), (g + 8, 8j +
// 2t), (g + 8, 8j + 2t + 1) of those rows.
#pragma once

#include <cstdint>

#include "hopper/device/ptx.cuh"
#include "hopper/device/wgmma_widths.cuh"

namespace moxie::hopper {

// Orders the writes of registers before wgmma reads them.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `kPending` groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Operand B [N, 64] in bf16, k contiguous: rows of 128 bytes from a 1024-byte aligned address, the
// 16-byte piece c of row r at place c ^ (r % 8). Adding 2 moves on by 16 of k.
__device__ __forceinline__ uint64_t swizzled_operand(uint32_t shared) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 / 16} << 32;
  return ((shared & 0x3ffffu) >> 4) | uint64_t{1} << 16 | kEightRows | kSwizzle128;
}

// Writes of shared memory that this thread made, or has seen a barrier for, before reads by wgmma.
__device__ __forceinline__ void fence_shared_for_wgmma() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
// 16 bytes, not through L1; zeros unless `valid`.
__device__ __forceinline__ void async_copy_16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void async_copy_4(uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
// This thread arrives at the barrier when all of its async copies so far have. The barrier counts
// it among those it was initialised for.
__device__ __forceinline__ void async_copy_arrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
// Makes a group of this thread's async copies since the last one; waits until at most `kPending`
// groups are under way.
__device__ __forceinline__ void async_copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void async_copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void async_copy_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// A barrier among `threads` threads; 0 is __syncthreads()'s.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Counts this warp's threads among them without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ __forceinline__ uint32_t load_acquire(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
__device__ __forceinline__ void add_release(uint32_t* address, uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

// Four 8 x 8 pieces of bf16 pairs, as D's fragments hold them (a register: row g, columns 2t and
// 2t + 1), written transposed: lane i's address takes column i % 8 of piece i / 8.
__device__ __forceinline__ void store_transposed(uint32_t shared, uint32_t r0, uint32_t r1,
                                                 uint32_t r2, uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

// c += a * b; a is 16 of k, b 16 of k of N rows.
template <int N>
__device__ __forceinline__ void wgmma_m64k16(float (&c)[N / 2], const uint32_t* a, uint64_t b);

#define MOXIE_WGMMA(N, C, A, B, ...)                                                             \
  template <>                                                                                    \
  __device__ __forceinline__ void wgmma_m64k16<N>(float(&c)[N / 2], const uint32_t* a,           \
                                                  uint64_t b) {                                  \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" C "}, {" A "}, " B \
                 ", 1, 1, 1, 0;"                                                                 \
                 : __VA_ARGS__                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
  }
MOXIE_WGMMA_WIDTHS(MOXIE_WGMMA)
#undef MOXIE_WGMMA

}  // namespace moxie::hopper
