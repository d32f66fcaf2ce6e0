// Reads a Hugging Face tokenizer.json: byte-level BPE.
//
// Supported: model BPE over all 256 bytes, with or without ignore_merges; merges spelled "a b" or
// ["a", "b"]; the o200k splitter, or a ByteLevel that splits as GPT-2 or not at all; added tokens
// without stripping. Whatever would change the tokens in another way (a normalizer, a template, a
// dropout, ...) is refused by name. Truncation and padding are the caller's business and ignored.
#include <boost/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/check.h"
#include "base/json.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer_impl.h"

namespace moxie::bpe {
namespace {

// Everything but vocabulary and merges: added tokens mostly.
constexpr size_t kMaxOtherValues = 1'000'000;

// Vocabulary and merges as they stand in the file; what they mean is known when all has been read.
class ModelSink final : public json::Sink {
 public:
  struct Entry {
    size_t offset;
    uint32_t length;
    TokenId id;
  };
  struct Merge {
    size_t offset;  // of the left part; the right part follows it
    uint32_t left_length, right_length;
  };

  ModelSink(std::string_view source, size_t text_size) : source_(source) {
    text_.reserve(text_size / 2);  // most of the rest is punctuation and indentation
  }

  bool wants(std::string_view path) override {
    if (path == "model.vocab") return in_merges_ = false, true;
    if (path == "model.merges") return in_merges_ = true;
    return false;
  }
  void key(std::string_view key) override {
    if (in_merges_) refuse("an object");
    MOXIE_CHECK(!has_key_, kInvalidArgument, source_,
                ": the vocabulary must be an object of numbers");
    check_length(key);
    offset_ = append(key);
    key_length_ = static_cast<uint32_t>(key.size());
    has_key_ = true;
  }
  void integer(int64_t value) override {
    if (in_merges_) refuse("a number");
    MOXIE_CHECK(has_key_, kInvalidArgument, source_,
                ": \"model.vocab\" must be an object {token: id}, found an array");
    MOXIE_CHECK(value >= 0 && value <= kMaxTokenId, kInvalidArgument, source_, ": token ",
                shown(text(offset_, key_length_)), " has the id ", value, ", expected 0 to ",
                kMaxTokenId);
    vocabulary_.push_back({offset_, key_length_, static_cast<TokenId>(value)});
    has_key_ = false;
  }
  void string(std::string_view value) override {
    if (!in_merges_) refuse("a string");
    if (num_parts_ < 0) {  // "a b"
      const size_t blank = value.find(' ');
      if (blank == 0 || blank == std::string_view::npos || blank + 1 == value.size() ||
          value.find(' ', blank + 1) != std::string_view::npos) {
        refuse(shown(value));
      }
      begin(true);
      string(value.substr(0, blank));
      string(value.substr(blank + 1));
      end();
      return;
    }
    if (num_parts_ == 2) refuse("an array of more than two");
    check_length(value);
    const size_t offset = append(value);
    if (num_parts_++ == 0) {
      merges_.push_back({offset, static_cast<uint32_t>(value.size()), 0});
    } else {
      merges_.back().right_length = static_cast<uint32_t>(value.size());
    }
  }
  void other(const char* kind) override { refuse(kind); }
  void begin(bool array) override {
    if (!in_merges_ || !array || num_parts_ >= 0) refuse(array ? "an array" : "an object");
    MOXIE_CHECK(merges_.size() < kMaxMerges, kInvalidArgument, source_, ": more than ", kMaxMerges,
                " merges");
    num_parts_ = 0;
  }
  void end() override {
    if (num_parts_ != 2) refuse("an array of fewer than two");
    num_parts_ = -1;
  }

  const std::vector<Entry>& vocabulary() const { return vocabulary_; }
  const std::vector<Merge>& merges() const { return merges_; }
  std::string_view text(size_t offset, size_t length) const {
    return std::string_view(text_).substr(offset, length);
  }

 private:
  [[noreturn]] void refuse(std::string_view found) const {
    if (in_merges_) {
      throw make_error(ErrorCode::kInvalidArgument, source_, ": merge ", merges_.size(),
                       R"( must be "a b" or ["a", "b"], found )", found);
    }
    throw make_error(ErrorCode::kInvalidArgument, source_,
                     ": \"model.vocab\" must be an object {token: id}, found ", found);
  }
  void check_length(std::string_view spelled) const {
    // A byte is spelled by at most two.
    MOXIE_CHECK(spelled.size() <= 2 * kMaxTokenBytes, kInvalidArgument, source_, ": a token of ",
                spelled.size(), " bytes, expected at most ", 2 * kMaxTokenBytes, ": ",
                shown(spelled));
    MOXIE_CHECK(!spelled.empty(), kInvalidArgument, source_, ": a token without any character");
  }
  size_t append(std::string_view spelled) {
    text_ += spelled;
    return text_.size() - spelled.size();
  }

  std::string_view source_;
  std::string text_;
  std::vector<Entry> vocabulary_;
  std::vector<Merge> merges_;
  bool in_merges_ = false;
  bool has_key_ = false;
  size_t offset_ = 0;
  uint32_t key_length_ = 0;
  int num_parts_ = -1;  // of the array that is open, -1: none is
};

// One reading of one file; the members share its source, document and result.
class Reader {
 public:
  Reader(std::string_view text, std::string_view source)
      : source_(source),
        sink_(source, text.size()),
        document_(json::parse(text, source,
                              {.max_bytes = kMaxJsonBytes, .max_values = kMaxOtherValues}, sink_)),
        root_(json::as_object(document_, source)) {}

  std::shared_ptr<const Tokenizer::Impl> read() {
    read_pipeline();
    read_model_settings();
    read_added_tokens();
    fill_vocabulary();
    fill_merges();
    impl_->added = AddedTokens(std::move(added_));
    return impl_;
  }

 private:
  // The parts of the file, in the order in which a text passes them.
  void read_pipeline();
  void read_model_settings();
  void read_added_tokens();
  void fill_vocabulary();
  void fill_merges();

  Split split_of(const json::Object& pre_tokenizer) const;
  Split split_of_byte_level(const json::Object& byte_level) const;
  void check_split_step(const json::Object& step) const;
  std::string type_of(const json::Object& part, std::string_view what) const;
  bool flag(const json::Object& part, std::string_view key, bool otherwise) const {
    return json::get_bool(part, key, source_).value_or(otherwise);
  }
  const json::Object* part(std::string_view key) const {
    const json::Value* value = json::find(root_, key);
    return value == nullptr ? nullptr : &json::as_object(*value, concat(source_, ": ", key));
  }

  std::string source_;
  ModelSink sink_;
  json::Value document_;
  const json::Object& root_;
  std::shared_ptr<Tokenizer::Impl> impl_ = std::make_shared<Tokenizer::Impl>();
  std::vector<AddedToken> added_;
};

std::string Reader::type_of(const json::Object& part, std::string_view what) const {
  const auto type = json::get_string(part, "type", concat(source_, ": ", what));
  MOXIE_CHECK(type, kInvalidArgument, source_, ": \"", what, "\" has no \"type\"");
  return *type;
}

void Reader::read_pipeline() {
  if (const json::Object* normalizer = part("normalizer")) {
    throw make_error(ErrorCode::kUnsupported, source_, ": a normalizer of type ",
                     shown(type_of(*normalizer, "normalizer")),
                     "; moxie supports tokenizers without one only");
  }
  const json::Object* pre_tokenizer = part("pre_tokenizer");
  MOXIE_CHECK(pre_tokenizer != nullptr, kUnsupported, source_,
              ": no pre_tokenizer; moxie supports byte-level BPE only");
  impl_->split = split_of(*pre_tokenizer);
  for (const char* key : {"post_processor", "decoder"}) {
    const json::Object* step = part(key);
    if (step == nullptr) continue;
    const std::string type = type_of(*step, key);
    MOXIE_CHECK(type == "ByteLevel", kUnsupported, source_, ": a ", key, " of type ", shown(type),
                "; moxie supports \"ByteLevel\" only");
  }
}

Split Reader::split_of(const json::Object& pre_tokenizer) const {
  const std::string type = type_of(pre_tokenizer, "pre_tokenizer");
  if (type == "ByteLevel") return split_of_byte_level(pre_tokenizer);
  const json::Value* steps = json::find(pre_tokenizer, "pretokenizers");
  MOXIE_CHECK(type == "Sequence" && steps != nullptr, kUnsupported, source_,
              ": a pre_tokenizer of type ", shown(type),
              "; moxie supports \"ByteLevel\", alone or behind the o200k split");
  const std::string where = concat(source_, ": pre_tokenizer");
  const json::Array& sequence = json::as_array(*steps, where);
  MOXIE_CHECK(sequence.size() == 1 || sequence.size() == 2, kUnsupported, where, ": a sequence of ",
              sequence.size(), " steps, supported are [ByteLevel] and [Split, ByteLevel]");
  const json::Object& last = json::as_object(sequence.back(), where);
  const std::string last_type = type_of(last, "pre_tokenizer");
  MOXIE_CHECK(last_type == "ByteLevel", kUnsupported, where, ": the last step is of type ",
              shown(last_type), ", expected \"ByteLevel\"");
  const Split split = split_of_byte_level(last);
  if (sequence.size() == 1) return split;
  check_split_step(json::as_object(sequence.front(), where));
  MOXIE_CHECK(split == Split::kNone, kUnsupported, where,
              ": ByteLevel splits once more behind the o200k split; expected \"use_regex\": false");
  return Split::kO200k;
}

Split Reader::split_of_byte_level(const json::Object& byte_level) const {
  MOXIE_CHECK(!flag(byte_level, "add_prefix_space", true), kUnsupported, source_,
              ": ByteLevel with add_prefix_space; moxie adds nothing to a text");
  return flag(byte_level, "use_regex", true) ? Split::kGpt2 : Split::kNone;
}

void Reader::check_split_step(const json::Object& step) const {
  const std::string where = concat(source_, ": pre_tokenizer");
  const std::string type = type_of(step, "pre_tokenizer");
  MOXIE_CHECK(type == "Split", kUnsupported, where, ": a first step of type ", shown(type),
              ", expected \"Split\"");
  const json::Value* pattern = json::find(step, "pattern");
  std::optional<std::string> regex;
  if (pattern != nullptr)
    regex = json::get_string(json::as_object(*pattern, where), "Regex", where);
  MOXIE_CHECK(regex == kO200kPattern, kUnsupported, where,
              ": splits at another pattern than o200k's: ", shown(regex.value_or("no Regex")));
  // The pattern covers every text, so keeping the matches is the same as cutting at them.
  const std::string behavior = json::get_string(step, "behavior", where).value_or("Isolated");
  const bool invert = flag(step, "invert", false);
  MOXIE_CHECK((behavior == "Isolated" && !invert) || (behavior == "Removed" && invert),
              kUnsupported, where, ": a split that is ", shown(behavior),
              invert ? " and inverted" : "", ", expected \"Isolated\" and not inverted");
}

void Reader::read_model_settings() {
  const json::Object* model = part("model");
  MOXIE_CHECK(model != nullptr, kInvalidArgument, source_, ": no \"model\"");
  const std::string where = concat(source_, ": model");
  const std::string type = json::get_string(*model, "type", where).value_or("BPE");
  MOXIE_CHECK(type == "BPE", kUnsupported, source_, ": a model of type ", shown(type),
              ", expected \"BPE\"");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto affix = json::get_string(*model, key, where);
    MOXIE_CHECK(!affix || affix->empty(), kUnsupported, where, ": ", key, " ", shown(*affix),
                "; byte-level BPE has none");
  }
  MOXIE_CHECK(json::get_double(*model, "dropout", where).value_or(0) == 0, kUnsupported, where,
              ": a dropout makes tokens random; set it to null");
  // Not asked: unk_token, fuse_unk and byte_fallback, which nothing reaches as every byte is a
  // token.
  impl_->whole_piece_first = flag(*model, "ignore_merges", false);
  for (const char* key : {"vocab", "merges"}) {
    MOXIE_CHECK(json::find(*model, key) != nullptr, kInvalidArgument, where, ": no \"", key, "\"");
  }
  json::as_object(*json::find(*model, "vocab"), concat(where, ": vocab"));
  json::as_array(*json::find(*model, "merges"), concat(where, ": merges"));
}

void Reader::read_added_tokens() {
  const json::Value* list = json::find(root_, "added_tokens");
  if (list == nullptr) return;
  const std::string where = concat(source_, ": added_tokens");
  std::unordered_set<std::string> names;
  for (const json::Value& value : json::as_array(*list, where)) {
    const json::Object& token = json::as_object(value, where);
    const auto id = json::get_int(token, "id", where);
    const auto name = json::get_string(token, "content", where);
    MOXIE_CHECK(id && name, kInvalidArgument, where, ": each needs \"id\" and \"content\", found ",
                shown(json::dump(value)));
    MOXIE_CHECK(*id >= 0 && *id <= kMaxTokenId, kInvalidArgument, where, ": ", shown(*name),
                " has the id ", *id, ", expected 0 to ", kMaxTokenId);
    MOXIE_CHECK(!name->empty() && name->size() <= kMaxNameBytes, kInvalidArgument, where,
                ": the name of ", *id, " has ", name->size(), " bytes, expected 1 to ",
                kMaxNameBytes);
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      MOXIE_CHECK(!flag(token, key, false), kUnsupported, where, ": ", shown(*name), " asks for ",
                  key, ", expected false");
    }
    MOXIE_CHECK(names.insert(*name).second, kInvalidArgument, where, ": ", shown(*name),
                " stands there a second time");
    added_.push_back({*name, static_cast<TokenId>(*id), flag(token, "special", false)});
  }
}

void Reader::fill_vocabulary() {
  std::unordered_map<TokenId, const AddedToken*> added_by_id;
  for (const AddedToken& token : added_) {
    const auto [other, is_new] = added_by_id.emplace(token.id, &token);
    MOXIE_CHECK(is_new, kInvalidArgument, source_, ": added tokens ", shown(other->second->name),
                " and ", shown(token.name), " both have the id ", token.id);
  }
  Vocabulary& vocabulary = impl_->vocabulary;
  std::unordered_set<TokenId> in_both;
  std::string bytes;
  for (const ModelSink::Entry& entry : sink_.vocabulary()) {
    const std::string_view spelled = sink_.text(entry.offset, entry.length);
    const auto added = added_by_id.find(entry.id);
    if (added != added_by_id.end()) {
      MOXIE_CHECK(added->second->name == spelled, kInvalidArgument, source_, ": the id ", entry.id,
                  " stands for ", shown(spelled), " in the vocabulary and for ",
                  shown(added->second->name), " among the added tokens");
      in_both.insert(entry.id);
    }
    bytes.clear();
    // A special token's name need not be spelled in byte-level characters, and text never finds it.
    const bool hidden = added != added_by_id.end() && added->second->special;
    if (hidden) {
      bytes = spelled;
    } else {
      MOXIE_CHECK(append_bytes_of(spelled, bytes), kInvalidArgument, source_, ": token ",
                  shown(spelled), " (id ", entry.id,
                  ") has a character that stands for no byte; expected byte-level BPE");
      MOXIE_CHECK(added == added_by_id.end() || bytes == spelled, kUnsupported, source_,
                  ": the added token ", shown(spelled),
                  " is in the vocabulary too and means other bytes there");
    }
    const Vocabulary::Added result = vocabulary.add(entry.id, bytes, !hidden);
    MOXIE_CHECK(result != Vocabulary::Added::kIdIsTaken, kInvalidArgument, source_, ": tokens ",
                shown(vocabulary.bytes(entry.id)), " and ", shown(bytes), " both have the id ",
                entry.id);
    // Different spellings mean different bytes, so this is the same key once more.
    MOXIE_CHECK(result != Vocabulary::Added::kBytesAreTaken, kInvalidArgument, source_, ": token ",
                shown(spelled), " stands in the vocabulary a second time");
  }
  for (const AddedToken& token : added_) {
    if (!in_both.contains(token.id)) {
      bytes.clear();
      const TokenId same = append_bytes_of(token.name, bytes) ? vocabulary.find(bytes) : kNoToken;
      MOXIE_CHECK(same == kNoToken, kInvalidArgument, source_, ": ", shown(token.name),
                  " has the id ", same, " in the vocabulary and ", token.id,
                  " among the added tokens");
      vocabulary.add(token.id, token.name, /*found_by_text=*/false);
    }
  }
}

void Reader::fill_merges() {
  const Vocabulary& vocabulary = impl_->vocabulary;
  TokenId byte_tokens[256];
  find_byte_tokens(vocabulary, source_, byte_tokens);
  impl_->merges = std::make_unique<Merges>(byte_tokens, sink_.merges().size());
  std::string bytes;
  uint32_t rank = 0;
  TokenId merged = kNoToken;
  for (const ModelSink::Merge& merge : sink_.merges()) {
    const std::string_view left = sink_.text(merge.offset, merge.left_length);
    const std::string_view right = sink_.text(merge.offset + merge.left_length, merge.right_length);
    const auto find = [&](std::string_view part) {
      const TokenId id = vocabulary.find(part);
      MOXIE_CHECK(id != kNoToken, kInvalidArgument, source_, ": merge ", rank, " (", shown(left),
                  " + ", shown(right), ") needs the token ", shown(part),
                  ", which the vocabulary lacks");
      return id;
    };
    bytes.clear();
    bool spelled = append_bytes_of(left, bytes);
    const size_t left_bytes = bytes.size();
    spelled = spelled && append_bytes_of(right, bytes);
    MOXIE_CHECK(spelled, kInvalidArgument, source_, ": merge ", rank, " (", shown(left), " + ",
                shown(right), ") has a character that stands for no byte");
    const std::string_view whole = bytes;
    const TokenId left_id = find(whole.substr(0, left_bytes));
    const TokenId right_id = find(whole.substr(left_bytes));
    // Files list all merges into one token together, so the last one is mostly this one too.
    if (merged == kNoToken || vocabulary.bytes(merged) != whole) {
      merged = find(whole);
    }
    MOXIE_CHECK(impl_->merges->add(left_id, right_id, rank, merged), kInvalidArgument, source_,
                ": merge ", rank, " (", shown(left), " + ", shown(right),
                ") stands there a second time");
    ++rank;
  }
  impl_->merges->finish();
}

}  // namespace

std::shared_ptr<const Tokenizer::Impl> read_tokenizer_json(std::string_view text,
                                                           std::string_view source) {
  return Reader(text, source).read();
}

}  // namespace moxie::bpe
