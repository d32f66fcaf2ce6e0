#include "tokenizer/vocabulary.h"

#include <algorithm>

#include "base/check.h"
#include "tokenizer/hash.h"

namespace moxie::bpe {
namespace {

// Strings can be made so that all of them want the same slot; a file made that way is refused
// instead of being read for minutes. By chance, a run this long never happens in a half-full table.
constexpr size_t kMaxProbes = 4096;

}  // namespace

void Vocabulary::grow() {
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max<size_t>(1024, old.size() * 2), Slot{});
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kNoToken) continue;
    size_t i = slot.hash & mask;
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
    const auto hash = static_cast<uint32_t>(hash_bytes(bytes));
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    for (size_t probes = 0; slots_[i].id != kNoToken; i = (i + 1) & mask) {
      if (slots_[i].hash == hash && this->bytes(slots_[i].id) == bytes)
        return Added::kBytesAreTaken;
      MOXIE_CHECK(++probes < kMaxProbes, kInvalidArgument,
                  "the vocabulary holds thousands of tokens made to collide in a hash table");
    }
    slots_[i] = {hash, id};
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
  const auto hash = static_cast<uint32_t>(hash_bytes(bytes));
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i].id != kNoToken; i = (i + 1) & mask) {
    if (slots_[i].hash == hash && this->bytes(slots_[i].id) == bytes) return slots_[i].id;
  }
  return kNoToken;
}

std::string_view Vocabulary::bytes(TokenId id) const {
  if (id < 0 || id >= size()) return {};
  const Entry& entry = entries_[static_cast<size_t>(id)];
  return std::string_view(text_).substr(entry.offset, entry.length);
}

}  // namespace moxie::bpe
