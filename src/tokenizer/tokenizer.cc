#include "moxie/tokenizer.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/tokenizer_impl.h"

namespace moxie {
namespace {

void encode_ordinary(const Tokenizer::Impl& impl, std::string_view text,
                     bpe::Merges::Scratch& scratch, std::vector<TokenId>& out) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = bpe::piece_end(impl.split, text, begin);
    const std::string_view piece = text.substr(begin, end - begin);
    begin = end;
    if (impl.whole_piece_first) {
      const TokenId whole = impl.vocabulary.find(piece);
      if (whole != bpe::kNoToken) {
        out.push_back(whole);
        continue;
      }
    }
    impl.merges->encode(piece, scratch, out);
  }
}

}  // namespace

namespace bpe {

std::string shown(std::string_view token) {
  constexpr size_t kShownBytes = 60;
  if (token.size() <= kShownBytes) return json::quote(token);
  return concat(json::quote(token.substr(0, kShownBytes)), "... (", token.size(), " bytes)");
}

void find_byte_tokens(const Vocabulary& vocabulary, std::string_view source, TokenId (&out)[256]) {
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    out[byte] = vocabulary.find({&text, 1});
    MOXIE_CHECK(out[byte] != kNoToken, kInvalidArgument, source,
                ": expected a token for every single byte, there is none for byte ", byte);
  }
}

}  // namespace bpe

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  std::error_code ignored;  // what cannot be looked at cannot be opened either
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const MappedFile file(is_folder ? path / "tokenizer.json" : path);
  const std::string source = file.path().string();
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  const size_t first = text.find_first_not_of(" \t\r\n");
  MOXIE_CHECK(first != std::string_view::npos, kInvalidArgument, source,
              ": empty, expected a tokenizer.json or a .tiktoken rank file");
  return text[first] == '{' ? from_tokenizer_json(text, source) : from_tiktoken(text, source);
}

Tokenizer Tokenizer::from_tokenizer_json(std::string_view text, std::string_view source) {
  return Tokenizer(bpe::read_tokenizer_json(text, source));
}

Tokenizer Tokenizer::from_tiktoken(std::string_view text, std::string_view source) {
  return Tokenizer(bpe::read_tiktoken(text, source));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, SpecialText special) const {
  std::vector<TokenId> out;
  append_encoded(text, special, out);
  return out;
}

void Tokenizer::append_encoded(std::string_view text, SpecialText special,
                               std::vector<TokenId>& out) const {
  bpe::Merges::Scratch scratch;
  size_t begin = 0;
  if (special == SpecialText::kRecognize) {
    while (const auto match = impl_->added.find_in(text, begin)) {
      encode_ordinary(*impl_, text.substr(begin, match->begin - begin), scratch, out);
      out.push_back(match->id);
      begin = match->end;
    }
  }
  encode_ordinary(*impl_, text.substr(begin), scratch, out);
}

std::string_view Tokenizer::bytes(TokenId id) const { return impl_->vocabulary.bytes(id); }

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
  std::string text;
  for (const TokenId id : ids) text += bytes(id);
  return text;
}

bool Tokenizer::is_special(TokenId id) const { return impl_->added.is_special(id); }
bool Tokenizer::exists(TokenId id) const { return !bytes(id).empty(); }
std::optional<TokenId> Tokenizer::special(std::string_view name) const {
  return impl_->added.id_of(name);
}
int32_t Tokenizer::vocab_size() const { return impl_->vocabulary.size(); }

}  // namespace moxie
