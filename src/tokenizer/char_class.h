// What the splitter must know of a character.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tokenizer/utf8.h"

namespace moxie::bpe {

// Bits; a mark is upper and lower without being a letter. Everything else, unassigned characters
// included, has none.
enum CharClass : uint8_t {
  kUpper = 1,    // Lu Lt Lm Lo M: what may stand in the upper-case run of a word
  kLower = 2,    // Ll Lm Lo M: what may stand in its lower-case run
  kLetter = 4,   // Lu Ll Lt Lm Lo
  kNumber = 8,   // Nd Nl No
  kSpace = 16,   // White_Space, which is what \s means
  kNewline = 32  // CR, LF
};

// All code points in two stages: a block number for each 256 code points, and the distinct blocks
// (about 60 kB). Categories are those of utf8proc, so of one Unicode version on every machine that
// has the same utf8proc; a letter which that version does not know is a symbol here.
class CharClasses {
 public:
  // Built on the first call (a few milliseconds), then shared.
  static const CharClasses& get();

  uint8_t of(uint32_t code_point) const {
    return blocks_[size_t{block_of_[code_point >> 8]} << 8 | (code_point & 0xff)];
  }

  // The character at p and how long it is. A byte that is not part of well-formed UTF-8 is a
  // character of its own without any class: a symbol, as U+FFFD would be.
  uint8_t at(const char* p, const char* end, size_t& length) const {
    if (static_cast<uint8_t>(*p) < 0x80) {
      length = 1;
      return blocks_[static_cast<uint8_t>(*p)];
    }
    const Utf8Char read = read_utf8(p, end);
    if (read.status != Utf8Status::kValid) {
      length = 1;
      return 0;
    }
    length = read.length;
    return of(read.code_point);
  }

 private:
  CharClasses();
  std::vector<uint16_t> block_of_;
  std::vector<uint8_t> blocks_;  // block 0 is that of ASCII and Latin-1
};

}  // namespace moxie::bpe
