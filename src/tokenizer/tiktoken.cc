// Reads .tiktoken rank files: on each line a token in base64, a blank and its rank.
#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "tokenizer/tokenizer_impl.h"

namespace moxie::bpe {
namespace {

// The named tokens of o200k_harmony; all other ids from 199998 to 201087 are <|reserved_N|>.
constexpr struct {
  TokenId id;
  const char* name;
} kNamed[] = {{199998, "<|startoftext|>"}, {199999, "<|endoftext|>"}, {200002, "<|return|>"},
              {200003, "<|constrain|>"},   {200005, "<|channel|>"},   {200006, "<|start|>"},
              {200007, "<|end|>"},         {200008, "<|message|>"},   {200012, "<|call|>"},
              {200018, "<|endofprompt|>"}};
constexpr TokenId kO200kRanks = 199998;
constexpr TokenId kO200kEnd = 201088;

// Appends what `text` encodes; false if it is not base64 with its padding.
bool decode_base64(std::string_view text, std::string& out) {
  if (text.empty() || text.size() % 4 != 0) return false;
  const auto value_of = [](char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int value = i >= text.size() - padding ? 0 : value_of(text[i]);
    if (value < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (i % 4 != 3) continue;
    const size_t num_bytes = i + 1 == text.size() ? 3 - padding : 3;
    for (size_t byte = 0; byte < num_bytes; ++byte) {
      out += static_cast<char>(bits >> (16 - 8 * byte) & 0xff);
    }
    bits = 0;
  }
  return true;
}

// Fills the vocabulary; returns how many ranks there are.
size_t read_ranks(std::string_view text, std::string_view source, Vocabulary& vocabulary) {
  size_t num_ranks = 0;
  size_t line_number = 0;
  std::string token;
  while (!text.empty()) {
    ++line_number;
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t blank = line.find(' ');
    token.clear();
    const bool has_token =
        blank != std::string_view::npos && decode_base64(line.substr(0, blank), token);
    const std::string_view number = has_token ? line.substr(blank + 1) : std::string_view();
    TokenId rank = 0;
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
    MOXIE_CHECK(has_token && !number.empty() && error == std::errc() &&
                    stop == number.data() + number.size(),
                kInvalidArgument, source, ": line ", line_number,
                ": expected a token in base64, a blank and its rank, found ", shown(line));
    MOXIE_CHECK(rank >= 0 && rank <= kMaxTokenId, kInvalidArgument, source, ": line ", line_number,
                ": rank ", rank, ", expected 0 to ", kMaxTokenId);
    MOXIE_CHECK(token.size() <= kMaxTokenBytes, kInvalidArgument, source, ": line ", line_number,
                ": a token of ", token.size(), " bytes, expected at most ", kMaxTokenBytes);
    const Vocabulary::Added added = vocabulary.add(rank, token, /*found_by_text=*/true);
    MOXIE_CHECK(added != Vocabulary::Added::kIdIsTaken, kInvalidArgument, source, ": line ",
                line_number, ": a second token of rank ", rank);
    MOXIE_CHECK(added != Vocabulary::Added::kBytesAreTaken, kInvalidArgument, source, ": line ",
                line_number, ": the token ", shown(token), " stands there a second time");
    ++num_ranks;
  }
  return num_ranks;
}

struct Pair {
  TokenId left, right, merged;
};

// Every way to cut a token into two tokens.
std::vector<Pair> all_pairs(const Vocabulary& vocabulary) {
  std::vector<Pair> pairs;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary.bytes(id);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const TokenId left = vocabulary.find(token.substr(0, cut));
      if (left == kNoToken) continue;
      const TokenId right = vocabulary.find(token.substr(cut));
      if (right != kNoToken) pairs.push_back({left, right, id});
    }
  }
  return pairs;
}

AddedTokens add_special_tokens(size_t num_ranks, Vocabulary& vocabulary) {
  std::vector<AddedToken> added;
  if (num_ranks == kO200kRanks && vocabulary.size() == kO200kRanks) {
    for (TokenId id = kO200kRanks; id < kO200kEnd; ++id) {
      const auto* named = std::ranges::find(kNamed, id, [](const auto& entry) { return entry.id; });
      const std::string reserved = concat("<|reserved_", id, "|>");
      added.push_back({named != std::end(kNamed) ? named->name : reserved, id});
    }
  } else {
    MOXIE_CHECK(vocabulary.size() + static_cast<TokenId>(std::size(kNamed)) <= kMaxTokenId,
                kInvalidArgument, "the ranks leave no room for special tokens");
    TokenId id = vocabulary.size();
    for (const auto& named : kNamed) added.push_back({named.name, id++});
  }
  for (const AddedToken& token : added) {
    vocabulary.add(token.id, token.name, /*found_by_text=*/false);
  }
  return AddedTokens(std::move(added));
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_tiktoken(std::string_view text,
                                                     std::string_view source) {
  MOXIE_CHECK(text.size() <= kMaxTiktokenBytes, kInvalidArgument, source, ": a rank file of ",
              text.size(), " bytes, expected at most ", kMaxTiktokenBytes);
  auto impl = std::make_shared<Tokenizer::Impl>();
  Vocabulary& vocabulary = impl->vocabulary;
  const size_t num_ranks = read_ranks(text, source, vocabulary);
  TokenId byte_tokens[256];
  find_byte_tokens(vocabulary, source, byte_tokens);
  const std::vector<Pair> pairs = all_pairs(vocabulary);
  impl->merges = std::make_unique<Merges>(byte_tokens, pairs.size());
  for (const Pair& pair : pairs) {
    // The id is the rank; every pair occurs once, as the two parts spell one token.
    impl->merges->add(pair.left, pair.right, static_cast<uint32_t>(pair.merged), pair.merged);
  }
  impl->merges->finish();
  impl->added = add_special_tokens(num_ranks, vocabulary);
  return impl;
}

}  // namespace moxie::bpe
