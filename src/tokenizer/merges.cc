#include "tokenizer/merges.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"
#include "tokenizer/hash.h"

namespace moxie::bpe {
namespace {

constexpr int kRankBits = 22;
constexpr int kIdBits = 21;
static_assert(kRankBits + 2 * kIdBits == 64);
static_assert(kMaxMerges == (1u << kRankBits) - 1 && kMaxTokenId < (1 << kIdBits) - 1);

// No pair looks like this: ids stay below 2^21 - 1.
constexpr uint64_t kEmpty = UINT64_MAX;

// Up to this length, looking for the lowest rank in a row of numbers beats a heap.
constexpr size_t kShortPiece = 96;

// See vocabulary.cc.
constexpr size_t kMaxProbes = 4096;

uint64_t key_of(uint32_t left, uint32_t right) { return uint64_t{left} << kIdBits | right; }

}  // namespace

Merges::Merges(const TokenId* byte_tokens, size_t num_merges) {
  const size_t num_slots = std::bit_ceil(std::max<size_t>(num_merges * 2, 64));
  buffer_ = PageBuffer(num_slots * sizeof(uint64_t));
  slots_ = buffer_.as<uint64_t>();
  std::ranges::fill(slots_, kEmpty);
  shift_ = 64 - std::countr_zero(num_slots);
  std::copy_n(byte_tokens, 256, byte_tokens_);
}

bool Merges::add(TokenId left, TokenId right, uint32_t rank, TokenId merged) {
  MOXIE_CHECK_INTERNAL(rank < kMaxMerges);
  const uint64_t key = key_of(static_cast<uint32_t>(left), static_cast<uint32_t>(right));
  const size_t mask = slots_.size() - 1;
  size_t i = key * kHashFactor >> shift_;
  for (size_t probes = 0; slots_[i] != kEmpty; i = (i + 1) & mask) {
    if (slots_[i] >> kRankBits == key) return false;
    MOXIE_CHECK(++probes < kMaxProbes, kInvalidArgument,
                "the merges hold thousands of pairs made to collide in a hash table");
  }
  slots_[i] = key << kRankBits | rank;
  if (rank >= merged_.size()) merged_.resize(rank + 1, kNoToken);
  merged_[rank] = merged;
  return true;
}

void Merges::finish() {
  byte_pair_ranks_.resize(256 * 256);
  for (size_t first = 0; first < 256; ++first) {
    for (size_t second = 0; second < 256; ++second) {
      byte_pair_ranks_[first << 8 | second] = rank_of(static_cast<uint32_t>(byte_tokens_[first]),
                                                      static_cast<uint32_t>(byte_tokens_[second]));
    }
  }
}

inline uint32_t Merges::rank_of(uint32_t left, uint32_t right) const {
  const uint64_t key = key_of(left, right);
  const size_t mask = slots_.size() - 1;
  for (size_t i = key * kHashFactor >> shift_; slots_[i] != kEmpty; i = (i + 1) & mask) {
    if (slots_[i] >> kRankBits == key) return slots_[i] & kMaxMerges;
  }
  return kNoMerge;
}

void Merges::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() <= kShortPiece) {
    encode_short(piece, out);
  } else {
    encode_long(piece, scratch, out);
  }
}

void Merges::encode_short(std::string_view piece, std::vector<TokenId>& out) const {
  const auto* bytes = reinterpret_cast<const uint8_t*>(piece.data());
  uint32_t ids[kShortPiece];
  uint32_t ranks[kShortPiece];  // of the pair (i, i + 1); behind the last pair stands kNoMerge
  size_t size = piece.size();
  for (size_t i = 0; i < size; ++i) ids[i] = static_cast<uint32_t>(byte_tokens_[bytes[i]]);
  for (size_t i = 0; i + 1 < size; ++i) {
    ranks[i] = byte_pair_ranks_[size_t{bytes[i]} << 8 | bytes[i + 1]];
  }
  ranks[size - 1] = kNoMerge;
  while (size > 1) {
    size_t best = 0;
    uint32_t lowest = ranks[0];
    for (size_t i = 1; i < size - 1; ++i) {
      const bool lower = ranks[i] < lowest;
      best = lower ? i : best;
      lowest = lower ? ranks[i] : lowest;
    }
    if (lowest == kNoMerge) break;
    ids[best] = static_cast<uint32_t>(merged_[lowest]);
    std::copy(ids + best + 2, ids + size, ids + best + 1);
    std::copy(ranks + best + 2, ranks + size, ranks + best + 1);
    --size;
    ranks[best] = best + 1 < size ? rank_of(ids[best], ids[best + 1]) : kNoMerge;
    if (best > 0) ranks[best - 1] = rank_of(ids[best - 1], ids[best]);
  }
  out.insert(out.end(), ids, ids + size);
}

void Merges::encode_long(std::string_view piece, Scratch& scratch,
                         std::vector<TokenId>& out) const {
  MOXIE_CHECK(piece.size() < UINT32_MAX, kUnsupported, "a word of ", piece.size(),
              " bytes; at most 4 GiB without a break can be turned into tokens");
  const auto* bytes = reinterpret_cast<const uint8_t*>(piece.data());
  const auto size = static_cast<uint32_t>(piece.size());
  auto& [heap, ids, ranks, previous, next] = scratch;
  ids.resize(size);
  ranks.resize(size);  // of the pair that begins here; kNoMerge also where a token was swallowed
  previous.resize(size);
  next.resize(size);
  heap.clear();
  for (uint32_t i = 0; i < size; ++i) {
    ids[i] = static_cast<uint32_t>(byte_tokens_[bytes[i]]);
    ranks[i] = i + 1 < size ? byte_pair_ranks_[size_t{bytes[i]} << 8 | bytes[i + 1]] : kNoMerge;
    previous[i] = i - 1;
    next[i] = i + 1;
    if (ranks[i] != kNoMerge) heap.push_back(uint64_t{ranks[i]} << 32 | i);
  }
  // Lowest rank first, leftmost among equals. An entry whose rank is no longer that of its place is
  // out of date and skipped.
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](uint32_t at) {
    const uint32_t right = next[at];
    const uint32_t rank = right < size ? rank_of(ids[at], ids[right]) : kNoMerge;
    if (rank != kNoMerge && rank != ranks[at]) {
      heap.push_back(uint64_t{rank} << 32 | at);
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
    ranks[at] = rank;
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto at = static_cast<uint32_t>(heap.back());
    heap.pop_back();
    if (ranks[at] != rank) continue;
    const uint32_t swallowed = next[at];
    ids[at] = static_cast<uint32_t>(merged_[rank]);
    next[at] = next[swallowed];
    if (next[at] < size) previous[next[at]] = at;
    ranks[swallowed] = kNoMerge;
    ranks[at] = kNoMerge;
    update(at);
    if (at > 0) update(previous[at]);
  }
  for (uint32_t i = 0; i < size; i = next[i]) out.push_back(static_cast<TokenId>(ids[i]));
}

}  // namespace moxie::bpe
