// Evaluation sets: what `moxie eval` asks, and what it expects. docs/evaluation.md describes the
// format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conversation.h"
#include "moxie/chat.h"

namespace moxie::cli {

struct Expectation {
  enum class Kind : uint8_t {
    kFinal,    // `text` is the final text, white space at both ends apart
    kPattern,  // the regular expression `text` matches all of the final text
    kCall,     // the first call is of the function `text` with `arguments`
  };
  Kind kind = Kind::kFinal;
  std::string text;
  std::string arguments;  // JSON text
};

struct EvalItem {
  std::string where;  // "sets/addition.jsonl line 3"
  std::string set;    // "sets/addition.jsonl"; "standard input"
  int64_t line = 0;
  std::string id, ability;
  Settings settings;  // system, developer and tools; the rest is not the set's to say
  std::vector<Message> messages;
  Expectation expect;
  std::vector<Message> reference;  // may be empty
};

// The items of one set, in the order of its lines; blank lines are passed over. All of it is
// validated; Error(kInvalidArgument) names set, line, what was expected and what was found.
std::vector<EvalItem> parse_eval_set(std::string_view text, const std::string& set);

// The sets that the words on the command line mean: files, folders (all their *.jsonl, sorted by
// name), "-" for standard input. At most `limit` items of each (0: all), after all were validated.
// Error(kIo), Error(kInvalidArgument).
std::vector<EvalItem> read_eval_sets(const std::vector<std::string>& words, int64_t limit);

}  // namespace moxie::cli
