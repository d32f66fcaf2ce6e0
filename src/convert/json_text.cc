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

json::Object published_quantization() {
  return {{"modules_to_not_convert",
           json::Array{"model.layers.*.self_attn", "model.layers.*.mlp.router",
                       "model.embed_tokens", "lm_head"}},
          {"quant_method", "mxfp4"}};
}

}  // namespace

std::string pretty_json(const json::Value& value) {
  std::string out;
  append(value, "", out);
  return out + "\n";
}

std::string with_quantization(std::string_view config_text, std::string_view source,
                              bool quantized) {
  const json::Value parsed = json::parse(config_text, source);
  constexpr std::string_view kKey = "quantization_config";
  bool missing = quantized;
  json::Object config;
  const auto add_if_missing = [&] {
    if (missing) config[kKey] = published_quantization();
    missing = false;
  };
  for (const auto& [key, value] : json::as_object(parsed, source)) {
    if (key == kKey) {
      // One that says mxfp4 may say more, which stays.
      const json::Object* old = value.if_object();
      const json::Value* method = old != nullptr ? json::find(*old, "quant_method") : nullptr;
      if (!quantized || method == nullptr || *method != "mxfp4") continue;
      config[kKey] = value;
      missing = false;
      continue;
    }
    if (key > kKey) add_if_missing();  // these files are sorted
    const bool is_dtype = key == "dtype" || key == "torch_dtype";
    config[key] = is_dtype && value.is_string() ? json::Value("bfloat16") : value;
  }
  add_if_missing();
  return pretty_json(config);
}

}  // namespace moxie
