#include "convert/json_text.h"

#include <boost/json.hpp>
#include <charconv>
#include <string>

namespace moxie {
namespace {

void append(const json::Value& value, const std::string& indent, std::string& out) {
  const std::string deeper = indent + "  ";
  const char* separator = "";
  if (const json::Object* object = value.if_object(); object != nullptr && !object->empty()) {
    out += "{";
    for (const auto& member : *object) {
      out += separator + ("\n" + deeper) + json::quote(member.key()) + ": ";
      append(member.value(), deeper, out);
      separator = ",";
    }
    out += "\n" + indent + "}";
  } else if (const json::Array* array = value.if_array(); array != nullptr && !array->empty()) {
    out += "[";
    for (const json::Value& element : *array) {
      out += separator + ("\n" + deeper);
      append(element, deeper, out);
      separator = ",";
    }
    out += "\n" + indent + "]";
  } else if (const double* number = value.if_double()) {
    char digits[32];
    const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, *number);
    const std::string text(digits, end.ptr);
    out += text;
    if (text.find_first_of(".e") == std::string::npos) out += ".0";  // stays a float when read
  } else {
    out += json::dump(value);
  }
}

}  // namespace

std::string pretty_json(const json::Value& value) {
  std::string out;
  append(value, "", out);
  return out + "\n";
}

std::string with_quantization(std::string_view config_text, std::string_view source,
                              bool quantized) {
  json::Value config = json::parse(config_text, source);
  json::Object& object = config.as_object();
  object.erase("quantization_config");
  for (const char* key : {"dtype", "torch_dtype"})
    if (object.contains(key)) object[key] = "bfloat16";
  if (quantized) {
    object["quantization_config"] =
        json::Object{{"modules_to_not_convert",
                      json::Array{"model.layers.*.self_attn", "model.layers.*.mlp.router",
                                  "model.embed_tokens", "lm_head"}},
                     {"quant_method", "mxfp4"}};
  }
  return pretty_json(config);
}

}  // namespace moxie
