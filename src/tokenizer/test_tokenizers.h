// Tokenizers for the tests: small ones made here, and o200k where its ranks are.
#pragma once

#include <boost/json.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "tokenizer/splitter.h"

namespace moxie {

// MOXIE_O200K, else beside the source folder; nothing if neither is there.
inline std::optional<std::filesystem::path> o200k_ranks_path() {
  if (auto path = env::o200k_ranks()) return path;
  const std::filesystem::path path = MOXIE_SOURCE_DIR "/../shared/data/o200k_base.tiktoken";
  if (std::filesystem::exists(path)) return path;
  return std::nullopt;
}

inline constexpr const char* kNoRanks =
    "the ranks of o200k are not here: set MOXIE_O200K to o200k_base.tiktoken";

inline std::string utf8(uint32_t code_point) {
  std::string text;
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xc0 | code_point >> 6);
    text += static_cast<char>(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xe0 | code_point >> 12);
    text += static_cast<char>(0x80 | (code_point >> 6 & 0x3f));
    text += static_cast<char>(0x80 | (code_point & 0x3f));
  } else {
    text += static_cast<char>(0xf0 | code_point >> 18);
    text += static_cast<char>(0x80 | (code_point >> 12 & 0x3f));
    text += static_cast<char>(0x80 | (code_point >> 6 & 0x3f));
    text += static_cast<char>(0x80 | (code_point & 0x3f));
  }
  return text;
}

// Bytes as a tokenizer.json spells them.
inline std::string spell(std::string_view bytes) {
  std::string spelled;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t next_free = 0x100;
    uint32_t character = 0;
    for (uint32_t b = 0; b <= byte; ++b) {
      const bool itself = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
      character = itself ? b : next_free++;
    }
    spelled += utf8(character);
  }
  return spelled;
}

// A tokenizer.json with ids 0 .. 255 for the bytes, then `tokens` in order; the merges are pairs of
// byte strings. Members of the document may be changed before it is written.
struct SmallTokenizer {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;

  boost::json::object document() const {
    namespace bj = boost::json;
    bj::object vocab;
    int64_t id = 0;
    for (int byte = 0; byte < 256; ++byte)
      vocab[spell(std::string(1, static_cast<char>(byte)))] = id++;
    for (const std::string& token : tokens) vocab[spell(token)] = id++;
    bj::array pairs;
    for (const auto& [left, right] : merges) pairs.push_back(bj::array{spell(left), spell(right)});
    const bj::object byte_level{
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const bj::object split{{"type", "Split"},
                           {"pattern", bj::object{{"Regex", std::string(bpe::kO200kPattern)}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
    return {{"version", "1.0"},
            {"added_tokens", bj::array{added(id, "<|start|>"), added(id + 1, "<|end|>"),
                                       added(id + 2, "<|endoftext|>")}},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             bj::object{{"type", "Sequence"}, {"pretokenizers", bj::array{split, byte_level}}}},
            {"decoder", byte_level},
            {"model",
             bj::object{
                 {"type", "BPE"}, {"ignore_merges", true}, {"vocab", vocab}, {"merges", pairs}}}};
  }
  std::string json() const { return boost::json::serialize(document()); }

  static boost::json::object added(int64_t id, const char* name) {
    return {{"id", id}, {"content", name}, {"special", true}};
  }
};

}  // namespace moxie
