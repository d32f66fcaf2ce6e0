// How likely a model finds a text that somebody else wrote.
#pragma once

#include <cstdint>
#include <span>

#include "model/model.h"

namespace moxie {

// The sum over i of -ln p(targets[i] | prompt, targets[0 .. i)), natural logarithm, in float64 over
// the whole vocabulary of the model. exp() of it divided by the number of targets is the
// perplexity.
//
// All rows run as prompts do (Phase::kPrefill), in chunks that do not show in the result. `cache`
// is emptied first and is of use for nothing afterwards. Throws Error(kInvalidArgument) when
// `prompt` is empty or all of it does not fit the cache, Error(kInternal) when a logit is NaN or
// infinite.
double negative_log_likelihood(Model& model, KvCache& cache, std::span<const int32_t> prompt,
                               std::span<const int32_t> targets);

}  // namespace moxie
