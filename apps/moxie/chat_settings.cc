#include "chat_settings.h"

#include <charconv>
#include <cmath>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct State {
  Settings& settings;
  std::string& reasoning;
};

struct Setting {
  const char* name;
  const char* values;
  const char* meaning;
  void (*set)(State& state, const Setting& self, const std::string& value);
  std::string (*get)(const Settings& settings, const std::string& reasoning);
};

[[noreturn]] void refuse(const Setting& setting, const std::string& value) {
  throw make_error(ErrorCode::kInvalidArgument, "/set ", setting.name, " wants ", setting.values,
                   ", found \"", value, "\"");
}

template <class T>
T number(const Setting& setting, const std::string& value) {
  T result = 0;
  const char* const end = value.data() + value.size();
  const auto [next, failure] = std::from_chars(value.data(), end, result);
  if (failure != std::errc{} || next != end) refuse(setting, value);
  return result;
}

// Changes a copy of the sampling parameters and keeps it if they hold together.
template <class T>
void set_sampling(State& state, const Setting& setting, const std::string& value,
                  T SamplingParams::* member) {
  SamplingParams changed = state.settings.sampling;
  changed.*member = number<T>(setting, value);
  try {
    check(changed);
  } catch (const Error&) {
    refuse(setting, value);
  }
  state.settings.sampling = changed;
}

std::string or_none(const std::string& text) { return text.empty() ? "none" : text; }
std::string text_or_empty(const std::string& value) { return value == "none" ? "" : value; }
std::string plain(double value) { return concat(value); }

const std::vector<Setting>& all_settings() {
  using S = const Setting&;
  using V = const std::string&;
  static const std::vector<Setting> kSettings = {
      {"effort", "low, medium or high", "how long it reasons before it answers",
       [](State& state, S self, V value) {
         const auto effort = parse_effort(value);
         if (!effort) refuse(self, value);
         state.settings.system.effort = effort;
       },
       [](const Settings& s, V) -> std::string {
         return s.system.effort ? name(*s.system.effort) : "none";
       }},
      {"developer", "a text or none", "instructions to follow",
       [](State& state, S, V value) { state.settings.developer = text_or_empty(value); },
       [](const Settings& s, V) { return or_none(s.developer); }},
      {"system", "a text or none", "first line of the system message",
       [](State& state, S, V value) { state.settings.system.identity = text_or_empty(value); },
       [](const Settings& s, V) { return or_none(s.system.identity); }},
      {"date", "YYYY-MM-DD or none", "the current date it is told",
       [](State& state, S, V value) { state.settings.system.current_date = text_or_empty(value); },
       [](const Settings& s, V) { return or_none(s.system.current_date); }},
      {"temperature", "0 to 2", "0 takes the likeliest token",
       [](State& state, S self, V value) {
         set_sampling(state, self, value, &SamplingParams::temperature);
       },
       [](const Settings& s, V) { return plain(s.sampling.temperature); }},
      {"top_p", "above 0 to 1", "draw among the likeliest with this share of the mass",
       [](State& state, S self, V value) {
         set_sampling(state, self, value, &SamplingParams::top_p);
       },
       [](const Settings& s, V) { return plain(s.sampling.top_p); }},
      {"top_k", "0 (off) or more", "draw among the K likeliest",
       [](State& state, S self, V value) {
         set_sampling(state, self, value, &SamplingParams::top_k);
       },
       [](const Settings& s, V) { return std::to_string(s.sampling.top_k); }},
      {"min_p", "0 to 1", "drop what is less likely than this share of the likeliest",
       [](State& state, S self, V value) {
         set_sampling(state, self, value, &SamplingParams::min_p);
       },
       [](const Settings& s, V) { return plain(s.sampling.min_p); }},
      {"seed", "a number from 0 on", "same seed, same text",
       [](State& state, S self, V value) {
         set_sampling(state, self, value, &SamplingParams::seed);
       },
       [](const Settings& s, V) { return std::to_string(s.sampling.seed); }},
      {"max_tokens", "0 (no limit) or more", "tokens of one answer, reasoning included",
       [](State& state, S self, V value) {
         const int64_t count = number<int64_t>(self, value);
         if (count < 0) refuse(self, value);
         state.settings.max_tokens = count;
       },
       [](const Settings& s, V) { return std::to_string(s.max_tokens); }},
      {"stop", "a text or none", "ends the answer",
       [](State& state, S, V value) {
         state.settings.stops.clear();
         if (value != "none") state.settings.stops.push_back(value);
       },
       [](const Settings& s, V) {
         std::string all;
         for (const std::string& stop : s.stops) all += (all.empty() ? "" : ", ") + stop;
         return or_none(all);
       }},
      {"reasoning", "show, hide or auto", "whether reasoning is printed",
       [](State& state, S self, V value) {
         if (value != "show" && value != "hide" && value != "auto") refuse(self, value);
         state.reasoning = value;
       },
       [](const Settings&, V reasoning) { return std::string(reasoning); }},
  };
  return kSettings;
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

}  // namespace

void set(Settings& settings, std::string& reasoning, std::string_view setting_name,
         const std::string& value) {
  State state{settings, reasoning};
  std::string names;
  for (const Setting& setting : all_settings()) {
    if (setting.name == setting_name) {
      MOXIE_CHECK(!value.empty(), kInvalidArgument, "/set ", setting.name, " wants ",
                  setting.values);
      return setting.set(state, setting, value);
    }
    names += concat(names.empty() ? "" : ", ", setting.name);
  }
  throw make_error(ErrorCode::kInvalidArgument, "/set does not know \"", setting_name,
                   "\"; there are ", names);
}

std::string show(const Settings& settings, const std::string& reasoning) {
  std::string text;
  for (const Setting& setting : all_settings())
    text += concat(padded(setting.name, 12), " ", harmless(setting.get(settings, reasoning)), "\n");
  std::string tools;
  for (const FunctionTool& tool : settings.tools) tools += (tools.empty() ? "" : ", ") + tool.name;
  return text + concat(padded("tools", 12), " ", or_none(tools), "\n");
}

std::string setting_help() {
  std::string text;
  for (const Setting& setting : all_settings())
    text += concat("  /set ", padded(setting.name, 12), " ", padded(setting.values, 21), " ",
                   setting.meaning, "\n");
  return text;
}

}  // namespace moxie::cli
