// WGMMA with the weight as operand A in registers and activations as operand B in shared memory,
// and what a kernel of producer and math warps needs beside ptx.cuh.
//
// Fragments, with lane = 4 * g + t of warp w of the warpgroup: A [64, 16] as in mma_m16n8k16 for
// rows 16 * w ..; D [64, N]: c[4 * j + 0 .. 3] are (g, 8j + 2t), (g, 8j + 2t + 1), (g + 8, 8j +
// 2t), (g + 8, 8j + 2t + 1) of those rows.
#pragma once

#include <cstdint>

#include "hopper/device/ptx.cuh"

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

#define MOXIE_C4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define MOXIE_C8(i) MOXIE_C4(i), MOXIE_C4(i + 4)
#define MOXIE_C16(i) MOXIE_C8(i), MOXIE_C8(i + 8)
#define MOXIE_C32(i) MOXIE_C16(i), MOXIE_C16(i + 16)
// N, names of c's registers, of a's and of b's, and c as operands.
#define MOXIE_WGMMA(N, C, A, B, ...)                                                             \
  template <>                                                                                    \
  __device__ __forceinline__ void wgmma_m64k16<N>(float(&c)[N / 2], const uint32_t* a,           \
                                                  uint64_t b) {                                  \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" C "}, {" A "}, " B \
                 ", 1, 1, 1, 0;"                                                                 \
                 : __VA_ARGS__                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
  }
MOXIE_WGMMA(8, "%0,%1,%2,%3", "%4,%5,%6,%7", "%8", MOXIE_C4(0))
MOXIE_WGMMA(16, "%0,%1,%2,%3,%4,%5,%6,%7", "%8,%9,%10,%11", "%12", MOXIE_C8(0))
MOXIE_WGMMA(24, "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11", "%12,%13,%14,%15", "%16", MOXIE_C8(0),
            MOXIE_C4(8))
MOXIE_WGMMA(32, "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15", "%16,%17,%18,%19", "%20",
            MOXIE_C16(0))
MOXIE_WGMMA(48,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23",
            "%24,%25,%26,%27", "%28", MOXIE_C16(0), MOXIE_C8(16))
MOXIE_WGMMA(64,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31",
            "%32,%33,%34,%35", "%36", MOXIE_C32(0))
MOXIE_WGMMA(96,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47",
            "%48,%49,%50,%51", "%52", MOXIE_C32(0), MOXIE_C16(32))
MOXIE_WGMMA(128,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
            "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63",
            "%64,%65,%66,%67", "%68", MOXIE_C32(0), MOXIE_C32(32))
MOXIE_WGMMA(160,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
            "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
            "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79",
            "%80,%81,%82,%83", "%84", MOXIE_C32(0), MOXIE_C32(32), MOXIE_C16(64))
MOXIE_WGMMA(192,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
            "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
            "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
            "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95",
            "%96,%97,%98,%99", "%100", MOXIE_C32(0), MOXIE_C32(32), MOXIE_C32(64))
MOXIE_WGMMA(256,
            "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
            "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
            "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
            "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
            "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
            "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
            "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
            "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127",
            "%128,%129,%130,%131", "%132", MOXIE_C32(0), MOXIE_C32(32), MOXIE_C32(64),
            MOXIE_C32(96))
#undef MOXIE_WGMMA
#undef MOXIE_C32
#undef MOXIE_C16
#undef MOXIE_C8
#undef MOXIE_C4

}  // namespace moxie::hopper
