#include "eval_score.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <regex>

#include "base/json.h"
#include "conversation.h"
#include "moxie/error.h"

namespace moxie::cli {
namespace {

namespace bj = boost::json;

bool same_integer(double number, int64_t integer) {
  // Both borders are doubles; between them a whole double converts exactly.
  return number >= -0x1p63 && number < 0x1p63 && number == std::floor(number) &&
         static_cast<int64_t>(number) == integer;
}

bool same_integer(double number, uint64_t integer) {
  return number >= 0 && number < 0x1p64 && number == std::floor(number) &&
         static_cast<uint64_t>(number) == integer;
}

// The parser keeps an integer as int64 when it fits and as uint64 when only that fits.
bool same_number(const bj::value& a, const bj::value& b) {
  if (a.kind() == b.kind()) return a == b;
  if (!a.is_double() && b.is_double()) return same_number(b, a);
  if (!a.is_double()) return false;  // int64 and uint64 hold different ranges
  return b.is_int64() ? same_integer(a.get_double(), b.get_int64())
                      : same_integer(a.get_double(), b.get_uint64());
}

bool same_value(const bj::value& a, const bj::value& b) {
  if (a.is_number() && b.is_number()) return same_number(a, b);
  if (a.kind() != b.kind()) return false;
  if (a.is_array()) {
    const bj::array &left = a.get_array(), &right = b.get_array();
    return std::equal(left.begin(), left.end(), right.begin(), right.end(), same_value);
  }
  if (a.is_object()) {
    const bj::object &left = a.get_object(), &right = b.get_object();
    return left.size() == right.size() &&
           std::all_of(left.begin(), left.end(), [&](const auto& member) {
             const bj::value* other = right.if_contains(member.key());
             return other != nullptr && same_value(member.value(), *other);
           });
  }
  return a == b;
}

std::string text_of_channel(const std::vector<Message>& messages, std::string_view channel) {
  std::string all;
  bool first = true;
  for (const Message& message : messages) {
    if (message.channel != channel || part_of(message) == Part::kCall) continue;
    if (!first) all += '\n';
    first = false;
    all += message.content;
  }
  return all;
}

Verdict judge_call(const Expectation& expect, const std::vector<Message>& messages) {
  const Message* call = first_call(messages);
  if (call == nullptr) return Verdict::kNoCall;
  if (function_name(*call) != expect.text) return Verdict::kWrongFunction;
  try {
    json::parse(call->content, "arguments");
  } catch (const Error&) {
    return Verdict::kNotJson;
  }
  return same_json(call->content, expect.arguments) ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const char* name(Verdict verdict) {
  constexpr const char* kNames[] = {"right",          "wrong",    "no_final",   "no_call",
                                    "wrong_function", "not_json", "max_tokens", "context_full"};
  return kNames[static_cast<size_t>(verdict)];
}

const char* description(Verdict verdict) {
  constexpr const char* kTexts[] = {"right",
                                    "wrong",
                                    "no final message",
                                    "no call",
                                    "called another function",
                                    "arguments are not valid JSON",
                                    "stopped at --max-tokens",
                                    "the context was full"};
  return kTexts[static_cast<size_t>(verdict)];
}

Verdict judge(const Expectation& expect, StopReason reason, const std::vector<Message>& messages) {
  // What was cut short is no answer, whatever it has said so far.
  if (reason == StopReason::kMaxTokens) return Verdict::kMaxTokens;
  if (reason == StopReason::kContextFull) return Verdict::kContextFull;
  if (expect.kind == Expectation::Kind::kCall) return judge_call(expect, messages);
  const bool has_final = std::any_of(messages.begin(), messages.end(), [](const Message& message) {
    return message.channel == "final" && part_of(message) != Part::kCall;
  });
  if (!has_final) return Verdict::kNoFinal;
  const std::string text = final_text(messages);
  const bool right = expect.kind == Expectation::Kind::kPattern ? matches_pattern(text, expect.text)
                                                                : trimmed(text) == expect.text;
  return right ? Verdict::kRight : Verdict::kWrong;
}

std::string final_text(const std::vector<Message>& messages) {
  return text_of_channel(messages, "final");
}

std::string reasoning_text(const std::vector<Message>& messages) {
  return text_of_channel(messages, "analysis");
}

const Message* first_call(const std::vector<Message>& messages) {
  const auto call = std::find_if(messages.begin(), messages.end(), [](const Message& message) {
    return part_of(message) == Part::kCall;
  });
  return call == messages.end() ? nullptr : &*call;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool same_json(std::string_view a, std::string_view b) {
  try {
    return same_value(json::parse(a, "a"), json::parse(b, "b"));
  } catch (const Error&) {
    return false;
  }
}

bool matches_pattern(const std::string& text, const std::string& pattern) {
  if (text.size() > kMaxPatternText) return false;
  return std::regex_match(text, std::regex(pattern, std::regex::ECMAScript));
}

std::string pattern_problem(const std::string& pattern) {
  try {
    const std::regex compiled(pattern, std::regex::ECMAScript);
    return {};
  } catch (const std::regex_error& error) {
    return error.what();
  }
}

Interval wilson_interval(int64_t right, int64_t items) {
  if (items == 0) return {};
  constexpr double kZ = 1.959963984540054;  // 97.5 % of a normal distribution lie below
  const auto n = static_cast<double>(items);
  const double share = static_cast<double>(right) / n, z2 = kZ * kZ;
  const double middle = share + z2 / (2 * n);
  const double half = kZ * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  const double scale = 1 + z2 / n;
  return {std::max(0.0, (middle - half) / scale), std::min(1.0, (middle + half) / scale)};
}

void Tally::add(const ItemResult& result) {
  ++items;
  ++verdicts[static_cast<size_t>(result.verdict)];
  answer_tokens += result.answer_tokens;
  reference_tokens += result.reference_tokens;
  reference_nll += result.reference_nll;
}

double Tally::share() const {
  return items == 0 ? 0 : static_cast<double>(right()) / static_cast<double>(items);
}

double Tally::perplexity() const { return cli::perplexity(reference_nll, reference_tokens); }

double Tally::mean_answer_tokens() const {
  return items == 0 ? 0 : static_cast<double>(answer_tokens) / static_cast<double>(items);
}

double perplexity(double nll, int64_t tokens) {
  return std::exp(nll / static_cast<double>(tokens));
}

}  // namespace moxie::cli
