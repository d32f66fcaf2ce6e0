// Cuts text into the pieces inside which tokens may be merged.
//
// Equal to matching a regular expression again and again, but in one pass without backtracking:
// every character is looked at a bounded number of times, whatever the text. The pieces cover the
// text. A byte that is not part of well-formed UTF-8 counts as one symbol (see CharClasses::at), so
// invalid text is cut as it would be with U+FFFD in place of each such byte.
#pragma once

#include <cstdint>
#include <string_view>

namespace moxie::bpe {

enum class Split : uint8_t {
  kO200k,  // kO200kPattern
  kGpt2,   // what ByteLevel does by itself with use_regex
  kNone,   // the text is one piece
};

// As Hugging Face's tokenizer.json of gpt-oss spells it.
inline constexpr std::string_view kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The end of the piece that begins at `begin`. REQUIRES: begin < text.size(), and that begin is 0
// or the end of a piece of the same text.
size_t piece_end(Split split, std::string_view text, size_t begin);

}  // namespace moxie::bpe
