// Added tokens: names that stand for one id, found in text only where the caller asks for it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie::bpe {

inline constexpr size_t kMaxNameBytes = 256;

struct AddedToken {
  std::string name;
  TokenId id = 0;
  bool special = true;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // Several names may stand for one id. REQUIRES: names differ, 1 .. kMaxNameBytes bytes each.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  struct Match {
    size_t begin = 0, end = 0;
    TokenId id = 0;
  };
  // The first place at or behind `from` where a name stands; the longest name that stands there.
  std::optional<Match> find_in(std::string_view text, size_t from) const;

  std::optional<TokenId> id_of(std::string_view name) const;
  bool is_special(TokenId id) const;

 private:
  std::vector<AddedToken> tokens_;    // by name
  std::vector<TokenId> special_ids_;  // rising
  bool begins_name_[256] = {};
};

}  // namespace moxie::bpe
