#include "tokenizer/added_tokens.h"

#include <algorithm>

namespace moxie::bpe {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::name);
  for (const AddedToken& token : tokens_) {
    begins_name_[static_cast<uint8_t>(token.name.front())] = true;
    if (token.special) special_ids_.push_back(token.id);
  }
  std::ranges::sort(special_ids_);
}

std::optional<AddedTokens::Match> AddedTokens::find_in(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_name_[static_cast<uint8_t>(text[begin])]) continue;
    // Names that share what was read so far are neighbours: [low, high) shrinks with every byte.
    auto low = tokens_.begin(), high = tokens_.end();
    std::optional<Match> longest;
    for (size_t depth = 0; low != high; ++depth) {
      if (low->name.size() == depth) {
        longest = {begin, begin + depth, low->id};
        ++low;
      }
      if (begin + depth == text.size()) break;
      const auto byte_at_depth = [depth](const AddedToken& token) {
        return static_cast<uint8_t>(token.name[depth]);
      };
      const auto same = std::ranges::equal_range(
          low, high, static_cast<uint8_t>(text[begin + depth]), {}, byte_at_depth);
      low = same.begin();
      high = same.end();
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

std::optional<TokenId> AddedTokens::id_of(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      tokens_, name, {}, [](const AddedToken& token) { return std::string_view(token.name); });
  if (found == tokens_.end() || found->name != name) return std::nullopt;
  return found->id;
}

bool AddedTokens::is_special(TokenId id) const {
  return std::ranges::binary_search(special_ids_, id);
}

}  // namespace moxie::bpe
