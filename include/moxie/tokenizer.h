// Text to token ids and back: byte-level BPE of the o200k family.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moxie {

using TokenId = int32_t;

enum class SpecialText : uint8_t {
  kOrdinary,   // "<|start|>" in the text is text: seven ordinary characters and their tokens
  kRecognize,  // the literal name of an added token becomes that token
};

// Immutable once made; every method may be called from any thread at any time.
class Tokenizer {
 public:
  // A Hugging Face tokenizer.json, or a .tiktoken rank file (which one: from its content). A folder
  // means its tokenizer.json. Throws Error(kIo / kInvalidArgument / kUnsupported) naming the file
  // and what is wrong with it.
  static Tokenizer from_file(const std::filesystem::path& path);
  static Tokenizer from_tokenizer_json(std::string_view text, std::string_view source);
  // Text is cut by the o200k splitter (a rank file does not name one). Ranks plus the special
  // tokens of o200k_harmony at ids 199998 .. 201087 when the ranks are o200k's (199998 of them),
  // otherwise the same named tokens (without the reserved ones) directly behind the last rank.
  static Tokenizer from_tiktoken(std::string_view text, std::string_view source);

  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Any bytes are accepted and come back from decode(); for cutting the text into words, each byte
  // that is not part of well-formed UTF-8 is a symbol of its own.
  std::vector<TokenId> encode(std::string_view text,
                              SpecialText special = SpecialText::kOrdinary) const;
  void append_encoded(std::string_view text, SpecialText special, std::vector<TokenId>& out) const;

  // The exact bytes of a token; the literal name of a special one; empty for an id that does not
  // exist.
  std::string_view bytes(TokenId id) const;
  std::string decode(std::span<const TokenId> ids) const;

  bool is_special(TokenId id) const;
  bool exists(TokenId id) const;
  std::optional<TokenId> special(std::string_view name) const;  // "<|start|>"
  int32_t vocab_size() const;                                   // largest id + 1

  struct Impl;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

// Turns a stream of token bytes into a stream of whole UTF-8 characters.
//
// push() returns what became certain: complete characters, and one U+FFFD for each maximal invalid
// piece; the start of a character that may still be completed is held back. finish() releases what
// is held as U+FFFD.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace moxie
