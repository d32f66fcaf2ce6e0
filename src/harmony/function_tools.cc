// Tools as the OpenAI API writes them. What stands in them ends up in prompts and in the headers of
// calls, so names are held to what a header can carry.
#include <boost/json.hpp>
#include <unordered_set>

#include "base/check.h"
#include "base/json.h"
#include "harmony/typescript.h"
#include "moxie/chat.h"

namespace moxie {
namespace {

constexpr size_t kMaxTools = 1024;
constexpr size_t kMaxNameBytes = 128;
constexpr json::ParseLimits kLimits = {
    .max_depth = 64, .max_bytes = size_t{4} << 20, .max_values = size_t{1} << 18};

std::string shortened(std::string_view text) {
  return text.size() <= 60 ? json::quote(text)
                           : json::quote(std::string(text.substr(0, 57)) + "...");
}

void check_name(std::string_view name, std::string_view where) {
  MOXIE_CHECK(!name.empty() && name.size() <= kMaxNameBytes, kInvalidArgument, where,
              ": a function's name must have 1 to ", kMaxNameBytes, " characters, found ",
              name.size());
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  for (const char c : name)
    MOXIE_CHECK(allowed(c), kInvalidArgument, where, ": a function's name may have letters, ",
                "digits, \"_\" and \"-\" only, found ", shortened(name),
                name.starts_with("functions.") ? "; leave out \"functions.\"" : "");
}

FunctionTool read_tool(const json::Value& value, const std::string& where) {
  const json::Object* entry = &json::as_object(value, where);
  const std::string type = json::get_string(*entry, "type", where).value_or("function");
  MOXIE_CHECK(type == "function", kUnsupported, where, ": \"type\" must be \"function\", found ",
              shortened(type), "; other tools are not offered this way");
  std::string inner = where;
  if (const json::Value* function = json::find(*entry, "function")) {
    inner += ".function";
    entry = &json::as_object(*function, inner);
  }
  const std::optional<std::string> name = json::get_string(*entry, "name", inner);
  MOXIE_CHECK(name.has_value(), kInvalidArgument, inner,
              ": \"name\" is missing; expected {\"type\": \"function\", \"function\": {\"name\": ",
              "...}} or {\"name\": ...}");
  check_name(*name, inner);
  FunctionTool tool;
  tool.name = *name;
  tool.description = json::get_string(*entry, "description", inner).value_or("");
  if (const json::Value* parameters = json::find(*entry, "parameters")) {
    json::as_object(*parameters, inner + ".parameters (a JSON Schema)");
    tool.parameters = harmony::compact_json(*parameters);
  }
  return tool;
}

}  // namespace

std::vector<FunctionTool> parse_function_tools(std::string_view json_text,
                                               std::string_view source) {
  const json::Value root = json::parse(json_text, source, kLimits);
  const json::Array& entries = json::as_array(root, concat(source, " (a list of tools)"));
  MOXIE_CHECK(entries.size() <= kMaxTools, kInvalidArgument, source, ": ", entries.size(),
              " tools, expected at most ", kMaxTools);
  std::vector<FunctionTool> tools;
  std::unordered_set<std::string> names;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string where = concat(source, ": tools[", i, "]");
    tools.push_back(read_tool(entries[i], where));
    MOXIE_CHECK(names.insert(tools.back().name).second, kInvalidArgument, where,
                ": the function \"", tools.back().name, "\" is defined twice");
  }
  return tools;
}

}  // namespace moxie
