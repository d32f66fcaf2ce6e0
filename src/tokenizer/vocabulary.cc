#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "tokenizer/hash.h"

namespace moxie::bpe {
namespace {

// Strings can be made so that all of them want the same slot; a file made that way is refused
// instead of being read for minutes. By chance, a run this long never happens in a half-full table.
constexpr size_t kMaxProbes = 4096;

}  // namespace

inline uint64_t Vocabulary::key_of(std::string_view bytes) {
  return bytes.size() <= 8 ? pack_bytes(bytes) : hash_bytes(bytes);
}

inline size_t Vocabulary::place_of(uint64_t key, size_t length) const {
  return mix(key ^ length * kHashFactor, kHashFactor) >> shift_;
}

inline bool Vocabulary::is_at(const Slot& slot, uint64_t key, std::string_view bytes) const {
  if (slot.key != key || slot.length != bytes.size()) return false;
  if (bytes.size() <= 8) return true;
  const char* text = text_.data() + entries_[static_cast<size_t>(slot.id)].offset;
  return std::memcmp(text, bytes.data(), bytes.size()) == 0;
}

void Vocabulary::grow() {
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max<size_t>(1024, old.size() * 2), Slot{});
  shift_ = 64 - std::countr_zero(slots_.size());
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kNoToken) continue;
    size_t i = place_of(slot.key, slot.length);
    while (slots_[i].id != kNoToken) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

Vocabulary::Added Vocabulary::add(TokenId id, std::string_view bytes, bool found_by_text) {
  MOXIE_CHECK_INTERNAL(id >= 0 && id <= kMaxTokenId && !bytes.empty());
  const auto idx = static_cast<size_t>(id);
  if (idx >= entries_.size()) entries_.resize(idx + 1);
  if (entries_[idx].length != 0) return Added::kIdIsTaken;
  if (found_by_text) {
    if ((num_found_by_text_ + 1) * 2 > slots_.size()) grow();
    const uint64_t key = key_of(bytes);
    const size_t mask = slots_.size() - 1;
    size_t i = place_of(key, bytes.size());
    for (size_t probes = 0; slots_[i].id != kNoToken; i = (i + 1) & mask) {
      if (is_at(slots_[i], key, bytes)) return Added::kBytesAreTaken;
      MOXIE_CHECK(++probes < kMaxProbes, kInvalidArgument,
                  "the vocabulary holds thousands of tokens made to collide in a hash table");
    }
    slots_[i] = {key, static_cast<uint32_t>(bytes.size()), id};
    ++num_found_by_text_;
    max_bytes_ = std::max(max_bytes_, bytes.size());
  }
  entries_[idx] = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(bytes.size())};
  text_ += bytes;
  MOXIE_CHECK(text_.size() < UINT32_MAX, kInvalidArgument, "the vocabulary's text passes 4 GiB");
  return Added::kYes;
}

TokenId Vocabulary::find(std::string_view bytes) const {
  if (bytes.empty() || bytes.size() > max_bytes_) return kNoToken;
  const uint64_t key = key_of(bytes);
  const size_t mask = slots_.size() - 1;
  for (size_t i = place_of(key, bytes.size()); slots_[i].id != kNoToken; i = (i + 1) & mask) {
    if (is_at(slots_[i], key, bytes)) return slots_[i].id;
  }
  return kNoToken;
}

}  // namespace moxie::bpe
