// config.json of an output: the input's with a part exchanged, laid out for readers.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace moxie {

// Two blanks of indentation, members in their order, the shortest digits that give the same number.
std::string pretty_json(const json::Value& value);

// The text of a config.json with quantization_config as published gpt-oss checkpoints have it, or
// without one; `dtype` and `torch_dtype`, where present, name bfloat16. Everything else stays.
std::string with_quantization(std::string_view config_text, std::string_view source,
                              bool quantized);

}  // namespace moxie
