// What a kernel of clusters needs beside ptx.cuh: the clusters' barrier and writes into the shared
// memory of their other CTAs; and matrices from shared memory.
#pragma once

#include <cstdint>

#include "hopper/device/ptx.cuh"

namespace moxie::hopper {

// The number of this CTA in its cluster, and of the cluster in the grid, of one dimension.
__device__ __forceinline__ int cta_in_cluster() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ int cluster_in_grid() {
  int id;
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(id));
  return id;
}

__device__ __forceinline__ int clusters_in_grid() {
  int count;
  asm("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
  return count;
}

// The barrier of all threads of a cluster in two halves. What was written before the first, in the
// shared memory of another CTA too, is seen after the second. All lanes of a warp call together.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The first half without what was written before: for mbarriers, which fence_mbarrier_init makes
// visible, and for "it has started".
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

// The address in CTA `rank` of the cluster of what lies at `shared` in this one.
__device__ __forceinline__ uint32_t address_in_cta(uint32_t shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(rank));
  return address;
}

__device__ __forceinline__ void store_in_cluster(uint32_t address, float a, float b, float c,
                                                 float d) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(address), "f"(a), "f"(b),
               "f"(c), "f"(d)
               : "memory");
}

__device__ __forceinline__ void store_in_cluster(uint32_t address, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

// 16 bytes that the other CTA's mbarrier at `barrier` counts: whoever waits for its phase sees
// them.
__device__ __forceinline__ void store_in_cluster_counted(uint32_t address, uint32_t barrier,
                                                         float a, float b, float c, float d) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1,%2,%3,%4}, "
      "[%5];" ::"r"(address),
      "f"(a), "f"(b), "f"(c), "f"(d), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void mbarrier_arrive_in_cta(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// An 8 x 8 matrix of bf16, a register: row lane / 4, columns 2 * (lane % 4) and the next.
__device__ __forceinline__ uint32_t transposed(uint32_t matrix) {
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

// Four 8 x 8 matrices of bf16: lane i gives the address of row i % 8 of matrix i / 8 and gets of
// each matrix row i / 4, columns 2 * (i % 4) and the next.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared));
}

// Brings a line into the L2.
__device__ __forceinline__ void prefetch_to_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

}  // namespace moxie::hopper
