#include "tokenizer/splitter.h"

#include "tokenizer/char_class.h"

namespace moxie::bpe {
namespace {

// The functions below follow the pattern's alternatives; `end` is the end of the text.
class Matcher {
 public:
  explicit Matcher(const char* end) : classes_(CharClasses::get()), end_(end) {}

  const char* o200k(const char* p) const;
  const char* gpt2(const char* p) const;

 private:
  // What is needed to try [U]*[W]+ and [U]+[W]* at one place after one scan, where U are the
  // characters of class kUpper and W those of kLower.
  struct Word {
    const char* lower_ended;  // end of [U]*[W]+ (greedy, then stepping back), nullptr if none
    const char* upper_end;  // end of [U]+, nullptr if empty; asked for only if lower_ended is none
  };
  Word word(const char* p) const;
  const char* contraction(const char* p) const;
  const char* white_space(const char* p, bool newline_ends) const;

  // The end of the longest run from p of characters with a class in `mask`, or of those without.
  const char* run_of(const char* p, uint8_t mask) const {
    size_t length = 0;
    while (p < end_ && (classes_.at(p, end_, length) & mask) != 0) p += length;
    return p;
  }
  const char* run_without(const char* p, uint8_t mask) const {
    size_t length = 0;
    while (p < end_ && (classes_.at(p, end_, length) & mask) == 0) p += length;
    return p;
  }

  const CharClasses& classes_;
  const char* end_;
};

Matcher::Word Matcher::word(const char* begin) const {
  const char* p = begin;
  const char* last_lower = nullptr;  // end of the last character of U that is in W too
  while (p < end_) {
    size_t length = 0;
    const uint8_t classes = classes_.at(p, end_, length);
    if ((classes & kUpper) == 0) {
      if ((classes & kLower) != 0) return {run_of(p + length, kLower), nullptr};
      break;
    }
    p += length;
    if ((classes & kLower) != 0) last_lower = p;
  }
  return {last_lower, p == begin ? nullptr : p};
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)?; ignoring case, U+017F is an s.
const char* Matcher::contraction(const char* p) const {
  if (end_ - p < 2 || *p != '\'') return p;
  const auto lower = [](char c) { return static_cast<char>(c | 0x20); };
  const char first = lower(p[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if (end_ - p < 3) return p;
  const char second = lower(p[2]);
  if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
  if (first == 'l' && second == 'l') return p + 3;
  if (p[1] == '\xc5' && p[2] == '\xbf') return p + 3;
  return p;
}

// \s*[\r\n]+ (if newline_ends), \s+(?!\S), \s+
const char* Matcher::white_space(const char* begin, bool newline_ends) const {
  const char* after_newline = nullptr;
  const char* last = begin;
  const char* p = begin;
  while (p < end_) {
    size_t length = 0;
    const uint8_t classes = classes_.at(p, end_, length);
    if ((classes & kSpace) == 0) break;
    last = p;
    p += length;
    if ((classes & kNewline) != 0) after_newline = p;
  }
  if (newline_ends && after_newline != nullptr) return after_newline;
  // The last one is left to the word that follows, unless it is all there is.
  return p == end_ || last == begin ? p : last;
}

const char* Matcher::o200k(const char* p) const {
  size_t length = 0;
  const uint8_t classes = classes_.at(p, end_, length);
  const char* next = p + length;
  if ((classes & kLetter) != 0) {
    const Word found = word(p);
    return contraction(found.lower_ended != nullptr ? found.lower_ended : found.upper_end);
  }
  if ((classes & kNumber) != 0) {
    for (int i = 1; i < 3 && next < end_ && (classes_.at(next, end_, length) & kNumber) != 0; ++i) {
      next += length;
    }
    return next;
  }
  if ((classes & kNewline) == 0) {
    // One character before a word belongs to it. A mark may be that character or begin the word
    // itself: if the rest has no lower-case run, the mark alone is one.
    const Word found = word(next);
    if (found.lower_ended != nullptr) return contraction(found.lower_ended);
    if ((classes & kLower) != 0) return contraction(next);
    if (found.upper_end != nullptr) return contraction(found.upper_end);
  }
  const char* symbol = *p == ' ' ? next : p;
  const char* symbols_end = run_without(symbol, kSpace | kLetter | kNumber);
  if (symbols_end != symbol) {
    while (symbols_end < end_ &&
           (*symbols_end == '\r' || *symbols_end == '\n' || *symbols_end == '/')) {
      ++symbols_end;
    }
    return symbols_end;
  }
  return white_space(p, /*newline_ends=*/true);
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
const char* Matcher::gpt2(const char* p) const {
  if (*p == '\'' && end_ - p >= 2) {
    if (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd') return p + 2;
    const std::string_view two(p + 1, end_ - p >= 3 ? 2 : 0);
    if (two == "re" || two == "ve" || two == "ll") return p + 3;
  }
  const char* begin = *p == ' ' ? p + 1 : p;
  for (const uint8_t mask : {kLetter, kNumber}) {
    const char* run_end = run_of(begin, mask);
    if (run_end != begin) return run_end;
  }
  const char* symbols_end = run_without(begin, kSpace | kLetter | kNumber);
  if (symbols_end != begin) return symbols_end;
  return white_space(p, /*newline_ends=*/false);
}

}  // namespace

size_t piece_end(Split split, std::string_view text, size_t begin) {
  const Matcher matcher(text.data() + text.size());
  const char* p = text.data() + begin;
  switch (split) {
    case Split::kO200k:
      return static_cast<size_t>(matcher.o200k(p) - text.data());
    case Split::kGpt2:
      return static_cast<size_t>(matcher.gpt2(p) - text.data());
    case Split::kNone:
      break;
  }
  return text.size();
}

}  // namespace moxie::bpe
