// The operations on CPUs: activations in bf16, the kernels of cpu/, one thread pool.
#pragma once

#include <memory>

#include "cpu/isa.h"
#include "ops/backend.h"

namespace moxie {

// isa: what to use, at most cpu::best_isa().
std::unique_ptr<Backend> make_cpu_backend(int num_threads, cpu::Isa isa);

}  // namespace moxie
