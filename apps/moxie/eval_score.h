// What an answer of `moxie eval` is worth: right or which kind of wrong, and the sums over many.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generation.h"
#include "eval_set.h"
#include "moxie/chat.h"

namespace moxie::cli {

enum class Verdict : uint8_t {
  kRight,
  kWrong,          // another text, or other arguments
  kNoFinal,        // ended without a final message, where one was expected
  kNoCall,         // ended without a call
  kWrongFunction,  // called another function
  kNotJson,        // the arguments of the call are not valid JSON
  kMaxTokens,      // did not end within --max-tokens
  kContextFull,    // did not end within the context
  kCount,
};
const char* name(Verdict verdict);         // "wrong_function", for programs
const char* description(Verdict verdict);  // "called another function", for people

// `messages`: what the model said, as HarmonyParser tells it.
Verdict judge(const Expectation& expect, StopReason reason, const std::vector<Message>& messages);

// The text of the final channel: all its messages, joined by newlines.
std::string final_text(const std::vector<Message>& messages);
std::string reasoning_text(const std::vector<Message>& messages);  // of analysis
const Message* first_call(const std::vector<Message>& messages);   // nullptr: there is none
std::string_view trimmed(std::string_view text);  // without white space (ASCII) at both ends

// Whether two JSON texts say the same value: the order of members does not matter, and numbers are
// compared by value (3 and 3.0 are one). False if either is no JSON.
bool same_json(std::string_view a, std::string_view b);

// std::regex takes stack for each byte it looks at; longer texts match no pattern.
inline constexpr size_t kMaxPatternText = 4096;
bool matches_pattern(const std::string& text, const std::string& pattern);  // all of the text
// Why `pattern` is no regular expression, or nothing if it is one.
std::string pattern_problem(const std::string& pattern);

// The 95 % score interval of Wilson (1927) of a share. Of nothing it is 0 to 1.
struct Interval {
  double low = 0, high = 1;
};
Interval wilson_interval(int64_t right, int64_t items);

struct ItemResult {
  const EvalItem* item = nullptr;
  Verdict verdict = Verdict::kWrong;
  StopReason reason = StopReason::kStopToken;
  std::vector<Message> messages;
  std::string raw;  // all tokens as text, control tokens by name
  int64_t prompt_tokens = 0, answer_tokens = 0;
  int64_t mended = 0;            // irregularities of the format that the parser recovered from
  int64_t reference_tokens = 0;  // 0: the item has no reference
  double reference_nll = 0;      // the sum over them, natural logarithm
};

// Sums over items: of one ability, or of all.
struct Tally {
  int64_t items = 0, answer_tokens = 0, reference_tokens = 0;
  double reference_nll = 0;
  std::array<int64_t, static_cast<size_t>(Verdict::kCount)> verdicts = {};

  void add(const ItemResult& result);
  int64_t count(Verdict verdict) const { return verdicts[static_cast<size_t>(verdict)]; }
  int64_t right() const { return count(Verdict::kRight); }
  double share() const;               // of right answers; 0 of nothing
  double perplexity() const;          // exp(mean); REQUIRES reference_tokens > 0
  double mean_answer_tokens() const;  // 0 of nothing
};
double perplexity(double nll, int64_t tokens);

}  // namespace moxie::cli
