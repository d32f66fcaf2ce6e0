// Any bytes as a tokenizer.json: refused with an Error, or a tokenizer that gives every text back.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "moxie/error.h"
#include "moxie/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const moxie::Tokenizer tokenizer = moxie::Tokenizer::from_tokenizer_json(text, "fuzz");
    std::string sample = "Hello  world, it's 12345!\r\n <|start|>\xff\xe4\xb8\xad\xcc\x81";
    sample += std::string(200, 'a');
    sample += text.substr(text.size() - std::min<size_t>(text.size(), 500));
    for (const auto special : {moxie::SpecialText::kOrdinary, moxie::SpecialText::kRecognize}) {
      const auto ids = tokenizer.encode(sample, special);
      if (tokenizer.decode(ids) != sample) std::abort();
      for (const moxie::TokenId id : ids) {
        if (!tokenizer.exists(id)) std::abort();
        if (special == moxie::SpecialText::kOrdinary && tokenizer.is_special(id)) std::abort();
      }
    }
  } catch (const moxie::Error&) {
  }
  return 0;
}
