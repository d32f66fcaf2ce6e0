// Byte-pair merging: which pairs of tokens merge, into what, and which goes first.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "tokenizer/vocabulary.h"

namespace moxie::bpe {

inline constexpr uint32_t kNoMerge = UINT32_MAX;
inline constexpr uint32_t kMaxMerges = (1u << 22) - 1;

class Merges {
 public:
  // REQUIRES: byte_tokens holds the 256 tokens of single bytes.
  Merges(const TokenId* byte_tokens, size_t num_merges);

  // The pair becomes `merged`; the lowest rank goes first. Returns false if the pair is there
  // already. REQUIRES: rank < kMaxMerges; at most num_merges calls; equal ranks mean equal
  // `merged`.
  bool add(TokenId left, TokenId right, uint32_t rank, TokenId merged);
  // After the last add(), before the first encode().
  void finish();

  // Working memory of encode(), reused from piece to piece by one thread.
  struct Scratch {
    std::vector<uint64_t> heap;
    std::vector<uint32_t> ids, ranks, previous, next;
  };
  // Starts from single bytes and merges the adjacent pair of lowest rank, the leftmost among
  // equals, until none merges; appends the tokens. Time n log n in the length of the piece.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  uint32_t rank_of(uint32_t left, uint32_t right) const;  // kNoMerge if the pair does not merge
  void encode_short(std::string_view piece, std::vector<TokenId>& out) const;
  void encode_long(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

  // Open hash table; a slot holds left (21 bits), right (21 bits) and rank (22 bits), so that a
  // look-up costs one cache line.
  PageBuffer buffer_;
  std::span<uint64_t> slots_;
  int shift_ = 0;
  std::vector<TokenId> merged_;            // by rank
  std::vector<uint32_t> byte_pair_ranks_;  // [first byte, second byte]
  TokenId byte_tokens_[256];
};

}  // namespace moxie::bpe
