// Reading the header of a message: what stands between <|start|> and <|message|>.
//
//   role[:name] [ to=RECIPIENT] [<|channel|>CHANNEL] [ to=RECIPIENT] [ [<|constrain|>]TYPE]
//
// Control tokens arrive as pieces of their own, so text that merely spells one is text. On headers
// of this form the result is openai-harmony's, with three exceptions, where that cannot read back
// what it writes: "user:NAME" is a role and a name, a lone content type is a content type (there: a
// recipient), and a part without "to=" is a recipient only if it can name a tool.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/chat.h"

namespace moxie::harmony {

struct HeaderPiece {
  enum class Kind : uint8_t { kText, kChannel, kConstrain, kOtherControl };
  Kind kind;
  std::string text;  // bytes, maybe not UTF-8; of a control token its name
};

// How the header began.
enum class HeaderStart : uint8_t {
  kPrompted,  // the prompt ended in <|start|>assistant
  kExplicit,  // <|start|>
  kImplied,   // neither: what came looks like a header
};

struct HeaderContext {
  HeaderStart start;
  const std::vector<std::string>& functions;  // names offered
};

struct ParsedHeader {
  Message message;                   // without content
  std::vector<Recovery> recoveries;  // what had to be mended
};

// A header that <|message|> ended.
ParsedHeader parse_header(const std::vector<HeaderPiece>& pieces, const HeaderContext& context);

// A header that ended without <|message|>: beyond role and channel its text is content, returned in
// message.content as bytes. Never a call: arguments that follow no <|message|> are not trusted.
ParsedHeader parse_headless(const std::vector<HeaderPiece>& pieces, const HeaderContext& context);

// Whether the pieces, should nothing follow, are the beginning of a header rather than text.
bool is_unfinished_header(const std::vector<HeaderPiece>& pieces, const HeaderContext& context);

// How text that came without <|start|> begins.
enum class Opening : uint8_t {
  kBlank,      // white space so far
  kUndecided,  // may become a header
  kHeader,     // "to=", a role or a channel as a word of its own
  kText,
};
Opening classify_opening(std::string_view text);

}  // namespace moxie::harmony
