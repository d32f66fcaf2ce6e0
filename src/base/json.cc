#include "base/json.h"

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <string>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "base/check.h"

namespace moxie::json {
namespace {

namespace bj = boost::json;

// Builds values as Boost.JSON's own parser does, and refuses what that lets pass.
struct Handler {
  static constexpr size_t max_object_size = bj::object::max_size();
  static constexpr size_t max_array_size = bj::array::max_size();
  static constexpr size_t max_key_size = bj::string::max_size();
  static constexpr size_t max_string_size = bj::string::max_size();

  bj::value_stack stack;
  size_t num_values = 0;
  size_t max_values = 0;
  // Keys seen so far in each open object; kept only to find duplicates.
  std::vector<std::unordered_set<std::string>> keys;
  std::string key;
  std::string number_begin;
  std::string problem;

  // Where the parser is, for the sink: the keys of the open objects, how many arrays are open, and
  // how many containers are open inside the one the sink wanted (0: it gets nothing now).
  Sink* sink = nullptr;
  std::string path;
  std::vector<size_t> path_lengths;
  int open_arrays = 0;
  int diverted = 0;
  std::string text;  // the parts of a string so far

  bool refuse(bj::error_code& error, std::string why) {
    problem = std::move(why);
    error = bj::error::syntax;
    return false;
  }
  bool count(bj::error_code& error) {
    if (++num_values <= max_values) return true;
    return refuse(error, "more than " + std::to_string(max_values) + " values");
  }
  bool begin(bool array) {
    if (diverted > 0) {
      ++diverted;
      sink->begin(array);
    } else if (sink != nullptr && open_arrays == 0 && !path.empty() && sink->wants(path)) {
      diverted = 1;
    }
    if (array) ++open_arrays;
    return true;
  }
  // True if the container that ends here goes into the result, `size` is then what it holds.
  bool end(bool array, size_t& size, bj::error_code& error) {
    if (array) --open_arrays;
    if (diverted > 1) {
      --diverted;
      sink->end();
      return false;
    }
    if (diverted == 1) {
      diverted = 0;
      size = 0;
    }
    return count(error);
  }

  bool on_document_begin(bj::error_code&) { return true; }
  bool on_document_end(bj::error_code&) { return true; }
  bool on_object_begin(bj::error_code&) {
    begin(false);
    if (diverted == 0) keys.emplace_back();
    path_lengths.push_back(path.size());
    return true;
  }
  bool on_object_end(size_t n, bj::error_code& error) {
    if (diverted == 0) keys.pop_back();
    path.resize(path_lengths.back());
    path_lengths.pop_back();
    if (end(false, n, error)) stack.push_object(n);
    return !error;
  }
  bool on_array_begin(bj::error_code&) { return begin(true); }
  bool on_array_end(size_t n, bj::error_code& error) {
    if (end(true, n, error)) stack.push_array(n);
    return !error;
  }
  bool on_key_part(bj::string_view part, size_t, bj::error_code&) {
    key.append(part.data(), part.size());
    if (diverted == 0) stack.push_chars(part);
    return true;
  }
  bool on_key(bj::string_view part, size_t, bj::error_code& error) {
    if (diverted > 0) {
      if (key.empty()) {
        sink->key({part.data(), part.size()});
        return true;
      }
      key.append(part.data(), part.size());
      sink->key(key);
      key.clear();
      return true;
    }
    key.append(part.data(), part.size());
    const bool fresh = keys.back().insert(key).second;
    if (!fresh) return refuse(error, "duplicate key \"" + key.substr(0, 200) + "\"");
    stack.push_key(part);
    if (sink != nullptr && open_arrays == 0) {
      path.resize(path_lengths.back());
      if (!path.empty()) path += '.';
      path += key;
    }
    key.clear();
    return true;
  }
  bool on_string_part(bj::string_view part, size_t, bj::error_code&) {
    if (diverted > 0) {
      text.append(part.data(), part.size());
    } else {
      stack.push_chars(part);
    }
    return true;
  }
  bool on_string(bj::string_view part, size_t, bj::error_code& error) {
    if (diverted == 0) {
      stack.push_string(part);
      return count(error);
    }
    if (text.empty()) {
      sink->string({part.data(), part.size()});
    } else {
      text.append(part.data(), part.size());
      sink->string(text);
      text.clear();
    }
    return true;
  }
  // Only for a number that ends with the text, so at most once.
  bool on_number_part(bj::string_view part, bj::error_code&) {
    number_begin.append(part.data(), part.size());
    return true;
  }
  bool on_int64(int64_t value, bj::string_view, bj::error_code& error) {
    if (diverted > 0) {
      sink->integer(value);
      return true;
    }
    stack.push_int64(value);
    return count(error);
  }
  bool on_uint64(uint64_t value, bj::string_view, bj::error_code& error) {
    if (diverted > 0) {
      sink->other("a number");
      return true;
    }
    stack.push_uint64(value);
    return count(error);
  }
  bool on_double(double value, bj::string_view part, bj::error_code& error) {
    // Boost.JSON's own conversion may miss the nearest double by a bit or two. (What passes the
    // range of a double stays as it says: infinite, or 0.)
    const std::string number = number_begin + std::string(part);
    double exact = 0;
    const auto read = std::from_chars(number.data(), number.data() + number.size(), exact);
    if (read.ec == std::errc() && read.ptr == number.data() + number.size()) value = exact;
    if (!std::isfinite(value)) return refuse(error, "a number too large for a double");
    if (diverted > 0) {
      sink->other("a number");
      return true;
    }
    stack.push_double(value);
    return count(error);
  }
  bool on_bool(bool value, bj::error_code& error) {
    if (diverted > 0) {
      sink->other("a boolean");
      return true;
    }
    stack.push_bool(value);
    return count(error);
  }
  bool on_null(bj::error_code& error) {
    if (diverted > 0) {
      sink->other("null");
      return true;
    }
    stack.push_null();
    return count(error);
  }
  bool on_comment_part(bj::string_view, bj::error_code&) { return true; }
  bool on_comment(bj::string_view, bj::error_code&) { return true; }
};

const char* kind_of(const Value& value) {
  switch (value.kind()) {
    case bj::kind::null:
      return "null";
    case bj::kind::bool_:
      return "a boolean";
    case bj::kind::int64:
    case bj::kind::uint64:
      return "an integer";
    case bj::kind::double_:
      return "a number";
    case bj::kind::string:
      return "a string";
    case bj::kind::array:
      return "an array";
    case bj::kind::object:
      return "an object";
  }
  return "something else";
}

[[noreturn]] void wrong_type(std::string_view where, std::string_view key, const char* expected,
                             const Value& found) {
  std::string shown = dump(found);
  if (shown.size() > 80) shown = kind_of(found);
  throw make_error(ErrorCode::kInvalidArgument, where, ": \"", key, "\" must be ", expected,
                   ", found ", shown);
}

Value parse_with(std::string_view text, std::string_view source, const ParseLimits& limits,
                 Sink* sink) {
  MOXIE_CHECK(text.size() <= limits.max_bytes, kInvalidArgument, source, ": ", text.size(),
              " bytes of JSON, expected at most ", limits.max_bytes);
  bj::parse_options options;
  options.max_depth = static_cast<size_t>(limits.max_depth);
  bj::basic_parser<Handler> parser(options);
  parser.handler().stack.reset();
  parser.handler().max_values = limits.max_values;
  parser.handler().sink = sink;
  bj::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size()) error = bj::error::extra_data;
  if (error) {
    const std::string& problem = parser.handler().problem;
    const std::string reason = problem.empty() ? error.message() : problem;
    throw make_error(ErrorCode::kInvalidArgument, source, ": not valid JSON at byte ", used, ": ",
                     reason);
  }
  return parser.handler().stack.release();
}

}  // namespace

Value parse(std::string_view text, std::string_view source, const ParseLimits& limits) {
  return parse_with(text, source, limits, nullptr);
}

Value parse(std::string_view text, std::string_view source, const ParseLimits& limits, Sink& sink) {
  return parse_with(text, source, limits, &sink);
}

const Value* find(const Object& object, std::string_view key) {
  const Value* value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

const Object& as_object(const Value& value, std::string_view where) {
  MOXIE_CHECK(value.is_object(), kInvalidArgument, where, ": expected a JSON object, found ",
              kind_of(value));
  return value.get_object();
}

const Array& as_array(const Value& value, std::string_view where) {
  MOXIE_CHECK(value.is_array(), kInvalidArgument, where, ": expected a JSON array, found ",
              kind_of(value));
  return value.get_array();
}

std::optional<int64_t> get_int(const Object& object, std::string_view key, std::string_view where) {
  const Value* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64()) return value->get_int64();
  if (value->is_double()) {
    const double number = value->get_double();
    if (std::trunc(number) == number && std::abs(number) < 9e15)
      return static_cast<int64_t>(number);
  }
  wrong_type(where, key, "an integer of at most 63 bits", *value);
}

std::optional<double> get_double(const Object& object, std::string_view key,
                                 std::string_view where) {
  const Value* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->to_number<double>();
  wrong_type(where, key, "a number", *value);
}

std::optional<bool> get_bool(const Object& object, std::string_view key, std::string_view where) {
  const Value* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  wrong_type(where, key, "true or false", *value);
}

std::optional<std::string> get_string(const Object& object, std::string_view key,
                                      std::string_view where) {
  const Value* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  wrong_type(where, key, "a string", *value);
}

std::string dump(const Value& value) { return bj::serialize(value); }

std::string quote(std::string_view text) {
  // Boost.JSON writes bytes as they are, so what is not UTF-8 is replaced here first.
  std::string clean;
  clean.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    size_t length = byte < 0x80                   ? 1
                    : byte >= 0xc2 && byte < 0xe0 ? 2
                    : byte >= 0xe0 && byte < 0xf0 ? 3
                    : byte >= 0xf0 && byte < 0xf5 ? 4
                                                  : 0;
    bool valid = length > 0 && i + length <= text.size();
    for (size_t j = 1; valid && j < length; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      unsigned char low = 0x80, high = 0xbf;
      if (j == 1 && byte == 0xe0) low = 0xa0;
      if (j == 1 && byte == 0xed) high = 0x9f;
      if (j == 1 && byte == 0xf0) low = 0x90;
      if (j == 1 && byte == 0xf4) high = 0x8f;
      valid = next >= low && next <= high;
    }
    if (valid) {
      clean.append(text, i, length);
      i += length;
    } else {
      clean += "\xef\xbf\xbd";
      ++i;
    }
  }
  return bj::serialize(bj::value(clean));
}

}  // namespace moxie::json
