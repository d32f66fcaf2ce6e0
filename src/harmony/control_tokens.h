// The control tokens of harmony, found in a vocabulary by their names.
#pragma once

#include "moxie/tokenizer.h"

namespace moxie::harmony {

inline constexpr TokenId kNoToken = -1;

struct ControlTokens {
  // Throws Error(kUnsupported) naming the first token that the vocabulary lacks.
  explicit ControlTokens(const Tokenizer& tokenizer);

  TokenId start, message, channel, constrain, end, call, ret;  // ret: <|return|>
  TokenId end_of_text;  // kNoToken if the vocabulary has none
};

}  // namespace moxie::harmony
