// What this machine can do at best, measured: how fast its threads read memory and multiply. Speeds
// of kernels are reported as percent of these.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "cpu/isa.h"

namespace moxie::cpu {

// Bytes per second at which all threads of the pool together read anonymous memory (huge pages
// where the system grants them), many times the size of the caches. The best of several ways to
// read, each tried more than once. Takes 1.25 GiB of memory while it runs, and about a second.
// Throws Error(kOutOfMemory).
double measure_read_bandwidth(ThreadPool& pool);

// Floating-point operations per second (a multiply-add counts as two) of all threads together, on
// registers alone: float32 multiply-adds up to kAvx512, bf16 dot products for kAvx512Bf16, tiles of
// bf16 for kAmx. The sum of what each thread reaches at best while all are busy. Takes about half a
// second. Not always rising: Intel's VDPBF16PS does half as much as its float32 multiply-adds,
// AMD's twice as much. REQUIRES: isa <= best_isa().
double measure_peak_flops(ThreadPool& pool, Isa isa);

}  // namespace moxie::cpu
