#include "engine/likelihood.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "engine/exp.h"

namespace moxie {
namespace {

// -ln of the share that exp(logits[target]) has of all.
double surprise(std::span<const float> logits, int32_t target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  bool finite = true;
  for (const float logit : logits) {
    finite = finite && std::isfinite(logit);
    sum += exp_nonpositive(static_cast<double>(logit) - static_cast<double>(largest));
  }
  MOXIE_CHECK(finite, kInternal, "the model gave a logit that is not a finite number");
  return std::log(sum) +
         (static_cast<double>(largest) - static_cast<double>(logits[static_cast<size_t>(target)]));
}

}  // namespace

double negative_log_likelihood(Model& model, KvCache& cache, std::span<const int32_t> prompt,
                               std::span<const int32_t> targets) {
  MOXIE_CHECK(!prompt.empty(), kInvalidArgument,
              "a likelihood needs a prompt of at least one token");
  if (targets.empty()) return 0;
  const auto vocab_size = static_cast<size_t>(model.config().vocab_size);
  for (const int32_t token : targets)
    MOXIE_CHECK(token >= 0 && static_cast<size_t>(token) < vocab_size, kInvalidArgument,
                "token id ", token, " is outside the vocabulary of ", vocab_size);

  // Logits behind the prompt's last token and all targets but the last.
  const size_t unscored = prompt.size() - 1;
  std::vector<int32_t> inputs(prompt.begin(), prompt.end());
  inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
  cache.truncate(0);
  double sum = 0;
  for (size_t done = 0; done < inputs.size();) {
    const bool scored = done >= unscored;
    const size_t left = (scored ? inputs.size() : unscored) - done;
    const size_t rows =
        std::min(left, static_cast<size_t>(scored ? model.max_logits() : model.max_rows()));
    const ForwardChunk chunk{&cache, std::span<const int32_t>(inputs).subspan(done, rows),
                             scored ? LogitsWanted::kAll : LogitsWanted::kNone};
    const std::span<const float> logits = model.forward({&chunk, 1}, Phase::kPrefill);
    for (size_t row = 0; scored && row < rows; ++row)
      sum += surprise(logits.subspan(row * vocab_size, vocab_size), targets[done - unscored + row]);
    done += rows;
  }
  return sum;
}

}  // namespace moxie
