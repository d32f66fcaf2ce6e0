#include <array>
#include <string>

#include "base/check.h"
#include "base/json.h"
#include "convert/convert.h"

namespace moxie {
namespace {

constexpr int64_t kFirstSpecial = 199998, kLastSpecial = 200018;  // published ids
constexpr int kNumBytes = 256;

struct NamedToken {
  int64_t id;
  const char* name;
};
constexpr NamedToken kNamed[] = {{199998, "<|startoftext|>"}, {199999, "<|endoftext|>"},
                                 {200002, "<|return|>"},      {200003, "<|constrain|>"},
                                 {200005, "<|channel|>"},     {200006, "<|start|>"},
                                 {200007, "<|end|>"},         {200008, "<|message|>"},
                                 {200012, "<|call|>"},        {200018, "<|endofprompt|>"}};

constexpr const char* kSplitPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Bytes that stand for themselves in a byte-level vocabulary; the others are moved to U+0100 and
// on.
constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

std::string utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

// "byte as a character": id, printable bytes first, then the others, each in rising order.
std::string byte_vocabulary() {
  std::string text;
  int id = 0;
  for (const bool printable : {true, false}) {
    int moved = 0;
    for (int byte = 0; byte < kNumBytes; ++byte) {
      const bool here = is_printable(byte);
      const int code_point = here ? byte : 256 + moved;
      if (!here) ++moved;
      if (here != printable) continue;
      text += concat(id == 0 ? "" : ",", "\n      ", json::quote(utf8(code_point)), ": ", id);
      ++id;
    }
  }
  return text;
}

std::string added_token(int64_t id, const std::string& name) {
  return concat("{\"id\": ", id, ", \"content\": ", json::quote(name),
                ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                "\"normalized\": false, \"special\": true}");
}

std::string added_tokens(int64_t vocab_size) {
  std::string text;
  const char* separator = "\n    ";
  const auto add = [&](int64_t id, const std::string& name) {
    text += separator + added_token(id, name);
    separator = ",\n    ";
  };
  if (vocab_size > kLastSpecial) {
    const NamedToken* next = kNamed;
    for (int64_t id = kFirstSpecial; id <= kLastSpecial; ++id) {
      if (id == next->id)
        add(id, next++->name);
      else
        add(id, concat("<|reserved_", id, "|>"));
    }
  } else {
    int64_t id = vocab_size - std::ssize(kNamed);
    for (const NamedToken& token : kNamed) add(id++, token.name);
  }
  return text;
}

}  // namespace

std::string byte_tokenizer_json(int64_t vocab_size) {
  MOXIE_CHECK(vocab_size >= kNumBytes + std::ssize(kNamed), kInvalidArgument,
              "a vocabulary of bytes and special tokens takes ", kNumBytes + std::ssize(kNamed),
              " ids, the model has ", vocab_size);
  return concat(R"({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [)",
                added_tokens(vocab_size), R"(
  ],
  "normalizer": null,
  "pre_tokenizer": {
    "type": "Sequence",
    "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": )",
                json::quote(kSplitPattern), R"(}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]
  },
  "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": true,
    "vocab": {)",
                byte_vocabulary(), R"(
    },
    "merges": []
  }
}
)");
}

}  // namespace moxie
