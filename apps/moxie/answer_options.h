// The options of `run` and `chat`: what the model is told, how tokens are drawn, where an answer
// ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conversation.h"

namespace moxie::cli {

struct AnswerOptions {
  std::string effort = "medium";
  std::optional<std::string> system, developer, date;
  std::string tools;  // a file
  std::optional<double> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  int64_t max_tokens = 0;
  std::vector<std::string> stops;
  std::string reasoning = "auto";
  bool quiet = false;
  ModelOptions machine;
};
void add_answer_options(CLI::App& command, AnswerOptions& options);

// What was not given comes from the model's generation_config.json, otherwise it is 1.0 and no
// filter; the seed then is a random one and the date today's.
Settings make_settings(const AnswerOptions& options, const GenerationConfig& defaults);

// "prompt 75 tokens at 41.2/s, answer 120 tokens at 9.81/s, seed 17".
std::string describe_speed(const GenerationStats& stats, const SamplingParams& sampling);
// Why an answer ended early, or nothing when it did not.
std::string describe_end(const Turn& turn, const Settings& settings, int64_t context);

}  // namespace moxie::cli
