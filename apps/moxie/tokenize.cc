// `moxie tokenize` and `moxie detokenize`: standard input to ids separated by blanks, and back.

#include <CLI/CLI.hpp>
#include <charconv>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "commands.h"
#include "model_options.h"
#include "moxie/tokenizer.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct Options {
  std::string source;
  bool special = false;
};

Tokenizer open_tokenizer(const std::string& source) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(source, ignored)) return Tokenizer::from_file(source);
  return Tokenizer::from_file(find_model(source, "tokenize"));
}

void tokenize(const Options& options) {
  const Tokenizer tokenizer = open_tokenizer(options.source);
  const std::string text = read_stdin();
  const std::vector<TokenId> ids =
      tokenizer.encode(text, options.special ? SpecialText::kRecognize : SpecialText::kOrdinary);
  std::string out;
  char digits[16];
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto end = std::to_chars(digits, digits + sizeof digits, ids[i]).ptr;
    if (i > 0) out += ' ';
    out.append(digits, end);
    if (out.size() > (1 << 20)) {
      print(out);
      out.clear();
    }
  }
  print(out + "\n");
}

void detokenize(const Options& options) {
  const Tokenizer tokenizer = open_tokenizer(options.source);
  const std::string text = read_stdin();
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  std::string out;
  int64_t word = 0;
  for (const char* at = begin;;) {
    while (at != end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) ++at;
    if (at == end) break;
    ++word;
    TokenId id = 0;
    const auto [next, failure] = std::from_chars(at, end, id);
    const bool ends =
        next == end || *next == ' ' || *next == '\n' || *next == '\t' || *next == '\r';
    MOXIE_CHECK(failure == std::errc{} && ends, kInvalidArgument, "word ", word, " (byte ",
                at - begin,
                " of standard input) is not a token id: expected numbers separated by "
                "blanks");
    MOXIE_CHECK(tokenizer.exists(id), kInvalidArgument, "token id ", id, " (word ", word,
                " of standard input) is not in the vocabulary of ", options.source);
    out += tokenizer.bytes(id);
    at = next;
    if (out.size() > (1 << 20)) {
      print(out);
      out.clear();
    }
  }
  print(out);
}

constexpr char kSourceHelp[] =
    "A model folder or id (demo: moxie's own), a tokenizer.json, or a .tiktoken file of ranks";

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* encode =
      app.add_subcommand("tokenize", "Turn standard input into token ids separated by blanks");
  encode->add_option("MODEL", options->source, kSourceHelp)->required();
  encode->add_flag("--special", options->special,
                   "Names of control tokens such as <|start|> mean the tokens; otherwise they are "
                   "text like any other");
  encode->footer(
      "Any bytes are accepted. `moxie detokenize` gives exactly the same bytes back.\n"
      "\n"
      "Examples:\n"
      "  printf 'hello world' | moxie tokenize ./gpt-oss-20b\n"
      "  moxie tokenize o200k_base.tiktoken < book.txt | wc -w");
  encode->callback([options] { tokenize(*options); });

  CLI::App* decode =
      app.add_subcommand("detokenize", "Turn token ids on standard input into the bytes they mean");
  decode->add_option("MODEL", options->source, kSourceHelp)->required();
  decode->footer(
      "Examples:\n"
      "  echo 24912 2375 | moxie detokenize ./gpt-oss-20b\n"
      "  moxie tokenize tokenizer.json < a.bin | moxie detokenize tokenizer.json | cmp - a.bin");
  decode->callback([options] { detokenize(*options); });
}

}  // namespace moxie::cli
