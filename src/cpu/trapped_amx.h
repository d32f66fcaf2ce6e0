// For tests: the very code for AMX, as it was compiled, on processors without AMX.
//
// There the tile instructions raise SIGILL. A handler decodes them and does on tiles in memory what
// the processor would do (TDPBF16PS as tile_emulated.h has it), then goes on behind them. It holds
// the code to the manual too: a wrong configuration or tiles that do not fit end the program.
#pragma once

#include <vector>

#include "cpu/isa.h"

namespace moxie::cpu {

// usable_isas(); and kAmx where the processor lacks the tiles only, with the handler installed.
std::vector<Isa> usable_or_trapped_isas();

}  // namespace moxie::cpu
