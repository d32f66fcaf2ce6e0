// JSON Schemas as the TypeScript-like types that gpt-oss was trained to read, exactly as
// openai-harmony writes them, its oddities included.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace moxie::harmony {

// The type that `schema` describes; lines after the first begin with `indent`. What the notation
// cannot say (anyOf, $ref, ...) becomes "any". Recurses as deep as the schema is nested.
std::string typescript_type(const json::Value& schema, const std::string& indent);

// Compact JSON, members in the order in which they stand, numbers as the format's training data
// has them: 1.0 stays 1.0, and 1e21 is not spelled out.
std::string compact_json(const json::Value& value);

}  // namespace moxie::harmony
