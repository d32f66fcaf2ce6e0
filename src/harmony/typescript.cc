#include "harmony/typescript.h"

#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <optional>
#include <unordered_set>
#include <vector>

namespace moxie::harmony {
namespace {

using json::Array;
using json::Object;
using json::Value;

// Unlike json::find this sees null members: `"oneOf": null` is there, and is no list.
const Value* member(const Value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

std::optional<std::string_view> string_member(const Value& value, std::string_view key) {
  const Value* found = member(value, key);
  if (found == nullptr || !found->is_string()) return std::nullopt;
  return std::string_view(found->get_string());
}

const Array* array_member(const Value& value, std::string_view key) {
  const Value* found = member(value, key);
  return found != nullptr ? found->if_array() : nullptr;
}

bool is_enum(const Value& schema) {
  const Array* values = array_member(schema, "enum");
  return values != nullptr && !values->empty();
}

// "default: ..." of a schema. The default of a string enum stands without quotes.
std::string default_text(const Value& schema, const Value& value) {
  std::string text = "default: ";
  if (!value.is_string()) return text + compact_json(value);
  const std::string_view string = value.get_string();
  if (is_enum(schema)) return text.append(string);
  return text.append("\"").append(string).append("\"");
}

// The type with its `| null`, as a property or a variant shows it.
std::string nullable_type(const Value& schema, const std::string& indent) {
  std::string type = typescript_type(schema, indent);
  const Value* nullable = member(schema, "nullable");
  const bool is_nullable = nullable != nullptr && nullable->is_bool() && nullable->get_bool();
  if (is_nullable && type.find("null") == std::string::npos) type += " | null";
  return type;
}

// oneOf outside of a property: one line for each variant.
std::string variants(const Array& schemas, const std::string& indent) {
  std::string out;
  for (const Value& variant : schemas) {
    out.append("\n").append(indent).append(" | ").append(nullable_type(variant, indent + "   "));
    const char* lead = " // ";
    if (const auto description = string_member(variant, "description")) {
      out.append(lead).append(*description);
      lead = " ";
    }
    if (const Value* value = member(variant, "default")) {
      // Here, and only here, the default of a string enum keeps its quotes.
      out.append(lead);
      out += value->is_string() && is_enum(variant) ? "default: " + compact_json(*value)
                                                    : default_text(variant, *value);
    }
  }
  return out;
}

struct Property {
  std::string_view name;
  const Value& schema;
  const char* mark;  // "?" unless required
};

void append_comments_above(const Value& schema, const std::string& indent, std::string& out) {
  if (const auto title = string_member(schema, "title"))
    out.append(indent).append("// ").append(*title).append("\n").append(indent).append("//\n");
  if (member(schema, "oneOf") == nullptr)
    if (const auto description = string_member(schema, "description"))
      out.append(indent).append("// ").append(*description).append("\n");
  const Array* examples = array_member(schema, "examples");
  if (examples == nullptr || examples->empty()) return;
  out.append(indent).append("// Examples:\n");
  for (const Value& example : *examples)
    if (example.is_string())
      out.append(indent).append("// - \"").append(example.get_string()).append("\"\n");
}

void append_one_of_property(const Property& property, const Array& schemas,
                            const std::string& indent, std::string& out) {
  const auto description = string_member(property.schema, "description");
  const bool is_first_variants = description && !schemas.empty() &&
                                 string_member(schemas.front(), "description") == description;
  const bool shown_above = description && !is_first_variants;
  if (shown_above) out.append(indent).append("// ").append(*description).append("\n");
  if (const Value* value = member(property.schema, "default"))
    out.append(indent).append("// ").append(default_text(property.schema, *value)).append("\n");
  out.append(indent).append(property.name).append(property.mark).append(":\n");
  for (size_t i = 0; i < schemas.size(); ++i) {
    const Value& variant = schemas[i];
    out.append(indent).append(" | ").append(nullable_type(variant, indent + "   "));
    const char* lead = " // ";
    const auto own = string_member(variant, "description");
    if (own && own != description && !(i == 0 && shown_above)) {
      out.append(lead).append(*own);
      lead = " ";
    }
    if (const Value* value = member(variant, "default"))
      out.append(lead).append(default_text(variant, *value));
    out += '\n';
  }
  out.append(indent).append(",\n");
}

void append_property(const Property& property, const std::string& indent, std::string& out) {
  append_comments_above(property.schema, indent, out);
  if (const Array* schemas = array_member(property.schema, "oneOf")) {
    append_one_of_property(property, *schemas, indent, out);
    return;
  }
  out.append(indent).append(property.name).append(property.mark).append(": ");
  out.append(nullable_type(property.schema, indent + "    ")).append(",");
  const Value* value = member(property.schema, "default");
  if (value != nullptr && member(property.schema, "oneOf") == nullptr)
    out.append(" // ").append(default_text(property.schema, *value));
  out += '\n';
}

std::string object_type(const Value& schema, const std::string& indent) {
  std::string out;
  if (const auto description = string_member(schema, "description"))
    out.append(indent).append("// ").append(*description).append("\n");
  out += "{\n";
  std::unordered_set<std::string_view> required;
  if (const Array* names = array_member(schema, "required"))
    for (const Value& name : *names)
      if (name.is_string()) required.insert(name.get_string());
  const Value* properties = member(schema, "properties");
  if (properties != nullptr && properties->is_object())
    for (const auto& [name, value] : properties->get_object())
      append_property({name, value, required.contains(name) ? "" : "?"}, indent, out);
  return out.append(indent).append("}");
}

std::string string_type(const Value& schema) {
  std::string out;
  if (const Array* values = array_member(schema, "enum"))
    for (const Value& value : *values)
      if (value.is_string())
        out.append(out.empty() ? "\"" : " | \"").append(value.get_string()).append("\"");
  return out.empty() ? "string" : out;
}

// {"type": ["string", "null"]}; empty if the list names nothing.
std::string type_list(const Array& types) {
  std::string out;
  bool first = true;
  for (const Value& type : types) {
    if (!type.is_string()) continue;
    const std::string_view name = type.get_string();
    if (!first) out += " | ";
    first = false;
    out += name == "integer" ? "number" : name;
  }
  return out;
}

// The shortest digits that read back as `value`; an exponent below 1e-5 and from 1e16 on.
std::string number_text(double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  const char* const sign = text.data() + e + 1;
  std::from_chars(sign + (*sign == '+' ? 1 : 0), end.ptr, exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int length = static_cast<int>(digits.size());
  const int point = exponent + 1;  // digits before the decimal point
  if (value == 0) {
    out += "0.0";
  } else if (point > 16 || point <= -5) {
    out += digits[0];
    if (length > 1) out.append(".").append(digits, 1);
    out.append("e").append(std::to_string(exponent));
  } else if (point >= length) {
    out.append(digits).append(static_cast<size_t>(point - length), '0').append(".0");
  } else if (point > 0) {
    out.append(digits, 0, static_cast<size_t>(point)).append(".");
    out.append(digits, static_cast<size_t>(point));
  } else {
    out.append("0.").append(static_cast<size_t>(-point), '0').append(digits);
  }
  return out;
}

}  // namespace

std::string typescript_type(const Value& schema, const std::string& indent) {
  if (const Array* schemas = array_member(schema, "oneOf")) return variants(*schemas, indent);
  const Value* type = member(schema, "type");
  if (type != nullptr && type->is_array()) {
    std::string list = type_list(type->get_array());
    if (!list.empty()) return list;
  }
  if (type == nullptr || !type->is_string()) return "any";
  const std::string_view name = type->get_string();
  if (name == "object") return object_type(schema, indent);
  if (name == "string") return string_type(schema);
  if (name == "number" || name == "integer") return "number";
  if (name == "boolean") return "boolean";
  if (name == "array") {
    const Value* items = member(schema, "items");
    return items == nullptr ? "Array<any>" : typescript_type(*items, indent) + "[]";
  }
  return "any";
}

std::string compact_json(const Value& value) {
  std::string out;
  bool first = true;
  switch (value.kind()) {
    case boost::json::kind::object:
      for (const auto& [name, element] : value.get_object()) {
        out.append(first ? "{" : ",").append(json::quote(name)).append(":");
        out += compact_json(element);
        first = false;
      }
      return first ? "{}" : out + "}";
    case boost::json::kind::array:
      for (const Value& element : value.get_array()) {
        out.append(first ? "[" : ",").append(compact_json(element));
        first = false;
      }
      return first ? "[]" : out + "]";
    case boost::json::kind::double_:
      return number_text(value.get_double());
    default:
      return json::dump(value);
  }
}

}  // namespace moxie::harmony
