// What a tokenizer is made of; the loaders fill it.
#pragma once

#include <memory>
#include <string_view>

#include "moxie/tokenizer.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/merges.h"
#include "tokenizer/splitter.h"
#include "tokenizer/vocabulary.h"

namespace moxie {

struct Tokenizer::Impl {
  bpe::Split split = bpe::Split::kO200k;
  bool whole_piece_first = true;  // a piece that is a token is that token, whatever merging gives
  bpe::Vocabulary vocabulary;     // added tokens too, by id
  std::unique_ptr<bpe::Merges> merges;
  bpe::AddedTokens added;
};

namespace bpe {

// Files beyond these sizes are refused unread (the real ones: 27.9 MB and 3.6 MB).
inline constexpr size_t kMaxJsonBytes = size_t{256} << 20;
inline constexpr size_t kMaxTiktokenBytes = size_t{16} << 20;

// Throw Error(kInvalidArgument / kUnsupported), beginning with `source`.
std::shared_ptr<const Tokenizer::Impl> read_tokenizer_json(std::string_view text,
                                                           std::string_view source);
std::shared_ptr<const Tokenizer::Impl> read_tiktoken(std::string_view text,
                                                     std::string_view source);

// A token for an error message: quoted, shortened, bytes that are not UTF-8 replaced.
std::string shown(std::string_view token);

// The tokens of the 256 single bytes. Throws if one is missing: then some texts could not be
// encoded at all.
void find_byte_tokens(const Vocabulary& vocabulary, std::string_view source, TokenId (&out)[256]);

}  // namespace bpe
}  // namespace moxie
