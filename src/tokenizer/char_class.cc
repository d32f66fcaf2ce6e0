#include "tokenizer/char_class.h"

#include <utf8proc.h>

#include <array>
#include <map>

namespace moxie::bpe {
namespace {

constexpr uint32_t kNumBlocks = 0x110000 >> 8;

uint8_t class_of(uint32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kUpper | kLetter;
    case UTF8PROC_CATEGORY_LL:
      return kLower | kLetter;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kUpper | kLower | kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kUpper | kLower;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kSpace;
    default:
      break;
  }
  if (code_point == '\n' || code_point == '\r') return kSpace | kNewline;
  if ((code_point >= 0x09 && code_point <= 0x0c) || code_point == 0x85) return kSpace;
  return 0;
}

// Planes 4 to 13 are unassigned and 15 and 16 are for private use; asking for each of their
// characters would take most of the time.
bool may_have_classes(uint32_t block) {
  const uint32_t plane = block >> 8;
  return plane < 4 || (plane == 14 && (block & 0xff) < 16);
}

}  // namespace

CharClasses::CharClasses() : block_of_(kNumBlocks) {
  std::map<std::array<uint8_t, 256>, uint16_t> known;
  for (uint32_t block = 0; block < kNumBlocks; ++block) {
    std::array<uint8_t, 256> classes{};
    if (may_have_classes(block)) {
      for (uint32_t i = 0; i < 256; ++i) classes[i] = class_of(block << 8 | i);
    }
    const auto [entry, is_new] = known.emplace(classes, static_cast<uint16_t>(known.size()));
    if (is_new) blocks_.insert(blocks_.end(), classes.begin(), classes.end());
    block_of_[block] = entry->second;
  }
}

const CharClasses& CharClasses::get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace moxie::bpe
