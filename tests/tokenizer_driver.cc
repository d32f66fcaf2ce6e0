// Lets a script ask for tokens: tokenizer_driver TOKENIZER ordinary|recognize|split
//
// Standard input holds texts, each a little-endian uint32 length and its bytes. For each text comes
// a uint32 count and that many int32 to standard output: the ids, or for `split` the lengths in
// bytes of the pieces of the o200k splitter. Ids are decoded again; a difference ends the program.
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "moxie/error.h"
#include "moxie/tokenizer.h"
#include "tokenizer/splitter.h"

static_assert(std::endian::native == std::endian::little);

namespace {

int serve(const moxie::Tokenizer& tokenizer, std::string_view mode) {
  uint32_t size = 0;
  std::string text;
  std::vector<int32_t> numbers;
  while (std::fread(&size, sizeof size, 1, stdin) == 1) {
    text.resize(size);
    if (std::fread(text.data(), 1, size, stdin) != size) {
      std::fprintf(stderr, "the input ends inside a text\n");
      return 1;
    }
    numbers.clear();
    if (mode == "split") {
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = moxie::bpe::piece_end(moxie::bpe::Split::kO200k, text, begin);
        numbers.push_back(static_cast<int32_t>(end - begin));
        begin = end;
      }
    } else {
      const auto special =
          mode == "recognize" ? moxie::SpecialText::kRecognize : moxie::SpecialText::kOrdinary;
      tokenizer.append_encoded(text, special, numbers);
      if (tokenizer.decode(numbers) != text) {
        std::fprintf(stderr, "a text of %u bytes does not come back\n", size);
        return 1;
      }
    }
    const auto count = static_cast<uint32_t>(numbers.size());
    std::fwrite(&count, sizeof count, 1, stdout);
    std::fwrite(numbers.data(), sizeof(int32_t), numbers.size(), stdout);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc == 3 ? argv[2] : "";
  if (mode != "ordinary" && mode != "recognize" && mode != "split") {
    std::fprintf(stderr, "usage: tokenizer_driver TOKENIZER ordinary|recognize|split\n");
    return 2;
  }
  try {
    return serve(moxie::Tokenizer::from_file(argv[1]), mode);
  } catch (const moxie::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
