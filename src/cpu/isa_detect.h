// What isa.cc asks of the processor's architecture; isa_x86.cc or isa_portable.cc is linked.
#pragma once

#include <string>
#include <vector>

#include "cpu/isa.h"

namespace moxie::cpu {

// Best instruction set that processor and operating system offer.
Isa detect_isa();
// The processor's name as it tells it itself; empty when it does not.
std::string detect_model_name();
// Features that matter to moxie's kernels and that the operating system lets programs use.
std::vector<std::string> detect_features();

}  // namespace moxie::cpu
