// Tokens and their bytes, in both directions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie::bpe {

// Bounds on what a file may ask for; gpt-oss has 201 088 ids and its longest token 128 bytes.
inline constexpr TokenId kMaxTokenId = (1 << 21) - 2;
inline constexpr size_t kMaxTokenBytes = 1024;

inline constexpr TokenId kNoToken = -1;

class Vocabulary {
 public:
  enum class Added { kYes, kIdIsTaken, kBytesAreTaken };

  // REQUIRES: 0 <= id <= kMaxTokenId and bytes not empty. A token that only `bytes` knows (a
  // special one, which no text may spell) is added with `found_by_text` false.
  Added add(TokenId id, std::string_view bytes, bool found_by_text);

  std::string_view bytes(TokenId id) const {  // empty if there is none
    if (id < 0 || id >= size()) return {};
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return std::string_view(text_).substr(entry.offset, entry.length);
  }
  TokenId find(std::string_view bytes) const;  // kNoToken if there is none
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }  // largest id + 1
  size_t max_bytes() const { return max_bytes_; }                         // of what find() can find

 private:
  struct Entry {
    uint32_t offset = 0;
    uint32_t length = 0;  // 0: there is no such token
  };
  // An open hash table. Up to 8 bytes, `key` and `length` are the token; of longer ones `key` is a
  // hash, which tells nearly all others apart without touching their bytes.
  struct Slot {
    uint64_t key = 0;
    uint32_t length = 0;
    TokenId id = kNoToken;
  };
  static uint64_t key_of(std::string_view bytes);
  size_t place_of(uint64_t key, size_t length) const;
  bool is_at(const Slot& slot, uint64_t key, std::string_view bytes) const;
  void grow();

  std::string text_;
  std::vector<Entry> entries_;  // by id
  std::vector<Slot> slots_;
  int shift_ = 0;  // 64 - log2 of their number
  size_t num_found_by_text_ = 0;
  size_t max_bytes_ = 0;
};

}  // namespace moxie::bpe
