// What the tests of matrix products share.
#pragma once

#include <vector>

#include "cpu/isa.h"
#include "cpu/matmul.h"
#include "cpu/trapped_amx.h"

namespace moxie::cpu {

// Of every instruction set the machine has, and of emulated AMX tiles.
inline std::vector<const MatmulKernels*> all_kernels() {
  std::vector<const MatmulKernels*> kernels;
  for (const Isa isa : usable_or_trapped_isas()) kernels.push_back(&matmul_kernels(isa));
  kernels.push_back(&matmul_kernels_amx_emulated());
  return kernels;
}

}  // namespace moxie::cpu
