// A small vocabulary for the tests and fuzz targets of harmony: every byte, some words of headers,
// the control tokens, and pieces of characters.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie::harmony {

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j)
      out += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

inline Tokenizer make_test_tokenizer() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* word :
       {"assistant", "user",     "system",       "developer", "tool",      "analysis",   "final",
        "comment",   "ary",      " to",          "to",        "functions", " functions", "python",
        "browser",   ".search",  " json",        "json",      " code",     "get",        "_weather",
        "{\"",       "\":",      "\"}",          "Hello",     " world",    "\n\n",       "\xf0\x9f",
        "\x92\x96",  "\xe2\x80", "\xef\xbf\xbd", " <",        "<|",        "|>"})
    tokens.emplace_back(word);
  std::string ranks;
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    ranks += base64(tokens[rank]) + " " + std::to_string(rank) + "\n";
  return Tokenizer::from_tiktoken(ranks, "the small vocabulary");
}

// Text in which "<|name|>" stands for the control token.
inline std::vector<TokenId> tokens_of(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, SpecialText::kRecognize);
}

}  // namespace moxie::harmony
