#include "cpu/trapped_amx.h"

#if defined(__x86_64__) && defined(__linux__)

#include <ucontext.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "cpu/tile_emulated.h"

namespace moxie::cpu {
namespace {

struct Config {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

struct Tile {
  uint32_t rows[16][16];
};

thread_local Config config;  // palette 0: not configured
thread_local Tile tiles[8];

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "trapped_amx: %s\n", what);
  std::abort();
}
void require(bool condition, const char* what) {
  if (!condition) fail(what);
}

// One instruction with a three-byte VEX prefix and map 0F38, as all of AMX have.
struct Instruction {
  uint8_t opcode = 0, prefix = 0;  // prefix: 0 none, 1 66, 2 F3, 3 F2
  int mod = 0, reg = 0, rm = 0, source = 0;
  uintptr_t address = 0;  // of the memory operand, without the index
  int64_t index = 0;      // scaled
  int length = 0;
};

std::optional<Instruction> decode(const uint8_t* code, const greg_t* registers) {
  static constexpr int kRegisters[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                         REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                         REG_R12, REG_R13, REG_R14, REG_R15};
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return std::nullopt;
  Instruction in;
  const int x = code[1] & 0x40 ? 0 : 8, b = code[1] & 0x20 ? 0 : 8;
  in.source = ~code[2] >> 3 & 15;
  in.prefix = code[2] & 3;
  in.opcode = code[3];
  in.mod = code[4] >> 6;
  in.reg = code[4] >> 3 & 7;
  in.rm = code[4] & 7;
  in.length = 5;
  if (in.mod == 3) return in;
  const auto value = [&](int number) {
    return static_cast<uint64_t>(registers[kRegisters[number]]);
  };
  bool has_base = true, from_rip = false;
  int base = in.rm | b;
  if (in.rm == 4) {
    const uint8_t sib = code[in.length++];
    const int index = (sib >> 3 & 7) | x;
    if (index != 4) in.index = static_cast<int64_t>(value(index) << (sib >> 6));
    base = (sib & 7) | b;
    has_base = (sib & 7) != 5 || in.mod != 0;
  } else if (in.rm == 5 && in.mod == 0) {
    has_base = false;
    from_rip = true;
  }
  int64_t offset = 0;
  if (in.mod == 1) {
    offset = static_cast<int8_t>(code[in.length]);
    in.length += 1;
  } else if (in.mod == 2 || !has_base) {
    int32_t wide;
    std::memcpy(&wide, code + in.length, 4);
    offset = wide;
    in.length += 4;
  }
  in.address = static_cast<uintptr_t>(offset) + (has_base ? value(base) : 0);
  if (from_rip) in.address += reinterpret_cast<uintptr_t>(code) + static_cast<uintptr_t>(in.length);
  return in;
}

void load_config(const void* from) {
  std::memcpy(&config, from, sizeof(config));
  require(config.palette == 1 && config.start_row == 0, "expected palette 1 from row 0");
  for (int i = 0; i < 16; ++i)
    require(i < 8 ? config.row_bytes[i] <= 64 && config.rows[i] <= 16
                  : config.row_bytes[i] == 0 && config.rows[i] == 0,
            "a tile's shape is out of range");
  for (const uint8_t byte : config.reserved) require(byte == 0, "a reserved byte is not 0");
  std::memset(tiles, 0, sizeof(tiles));
}

void check_tile(int tile) {
  require(config.palette == 1 && config.rows[tile] == 16 && config.row_bytes[tile] == 64,
          "a tile is used that is not configured as 16 rows of 64 bytes");
}

void load_tile(int tile, const Instruction& in) {
  std::memset(&tiles[tile], 0, sizeof(Tile));
  for (int row = 0; row < config.rows[tile]; ++row)
    std::memcpy(tiles[tile].rows[row],
                reinterpret_cast<const void*>(in.address + static_cast<uint64_t>(row * in.index)),
                config.row_bytes[tile]);
}

void store_tile(int tile, const Instruction& in) {
  for (int row = 0; row < config.rows[tile]; ++row)
    std::memcpy(reinterpret_cast<void*>(in.address + static_cast<uint64_t>(row * in.index)),
                tiles[tile].rows[row], config.row_bytes[tile]);
}

void multiply(int c, int a, int b) {
  check_tile(a);
  check_tile(b);
  require(c != a && c != b && a != b, "TDPBF16PS needs three different tiles");
  EmulatedTiles::multiply(tiles[c].rows, tiles[a].rows, tiles[b].rows);
}

// False if this is no instruction of AMX.
bool execute(const Instruction& in) {
  constexpr int kNone = 0, kF3 = 2, kF2 = 3;
  if (in.opcode == 0x49 && in.prefix == kNone) {
    if (in.mod == 3)
      config = {};  // TILERELEASE
    else
      load_config(reinterpret_cast<const void*>(in.address + static_cast<uint64_t>(in.index)));
    return true;
  }
  if (in.opcode == 0x49 && in.prefix == kF2 && in.mod == 3) {
    check_tile(in.reg);
    std::memset(&tiles[in.reg], 0, sizeof(Tile));
    return true;
  }
  if (in.opcode == 0x4b && in.mod != 3 && in.prefix != kNone) {
    check_tile(in.reg);
    if (in.prefix == kF3)
      store_tile(in.reg, in);
    else
      load_tile(in.reg, in);  // F2, or 66 with a hint
    return true;
  }
  if (in.opcode == 0x5c && in.prefix == kF3 && in.mod == 3) {
    check_tile(in.reg);
    multiply(in.reg, in.rm, in.source);
    return true;
  }
  return false;
}

void on_illegal_instruction(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* code = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  const auto instruction = decode(code, registers);
  if (instruction && execute(*instruction))
    registers[REG_RIP] += instruction->length;
  else
    std::signal(SIGILL, SIG_DFL);  // it comes again, and ends the program
}

}  // namespace

std::vector<Isa> usable_or_trapped_isas() {
  std::vector<Isa> isas = usable_isas();
  if (isas.back() != Isa::kAvx512Bf16) return isas;
  struct sigaction action = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGILL, &action, nullptr) == 0) isas.push_back(Isa::kAmx);
  return isas;
}

}  // namespace moxie::cpu

#else

namespace moxie::cpu {
std::vector<Isa> usable_or_trapped_isas() { return usable_isas(); }
}  // namespace moxie::cpu

#endif
