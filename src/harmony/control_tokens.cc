#include "harmony/control_tokens.h"

#include "base/check.h"

namespace moxie::harmony {
namespace {

TokenId required(const Tokenizer& tokenizer, const char* name) {
  const std::optional<TokenId> id = tokenizer.special(name);
  MOXIE_CHECK(id.has_value(), kUnsupported, "the vocabulary has no control token ", name,
              ", which the harmony format needs; use the tokenizer.json of a gpt-oss model");
  return *id;
}

}  // namespace

ControlTokens::ControlTokens(const Tokenizer& tokenizer)
    : start(required(tokenizer, "<|start|>")),
      message(required(tokenizer, "<|message|>")),
      channel(required(tokenizer, "<|channel|>")),
      constrain(required(tokenizer, "<|constrain|>")),
      end(required(tokenizer, "<|end|>")),
      call(required(tokenizer, "<|call|>")),
      ret(required(tokenizer, "<|return|>")),
      end_of_text(tokenizer.special("<|endoftext|>").value_or(kNoToken)) {}

}  // namespace moxie::harmony
