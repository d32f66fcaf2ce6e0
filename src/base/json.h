// Strict JSON for files that strangers wrote.
//
// On top of Boost.JSON: duplicate keys, numbers that are not finite, and nesting beyond `max_depth`
// are refused, and every refusal names `source` (a file name) and the byte. Bad UTF-8, lone
// surrogates, a byte-order mark and trailing bytes are refused by Boost.JSON itself.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moxie::json {

using Value = boost::json::value;
using Object = boost::json::object;
using Array = boost::json::array;

struct ParseLimits {
  int max_depth = 64;
  size_t max_bytes = size_t{1} << 30;
  size_t max_values = size_t{1} << 24;  // in the result; a value takes a few dozen bytes
};

// Throws Error(kInvalidArgument).
Value parse(std::string_view text, std::string_view source, const ParseLimits& limits = {});

// Takes members that are too large to be built as values (a vocabulary) while they are read.
class Sink {
 public:
  virtual ~Sink() = default;
  // Asked for each object and array reached through objects only, by the keys that lead to it:
  // "model.vocab". If wanted, the calls below get its contents in order, without its own brackets,
  // and an empty object or array takes its place in the result. Views live until the call returns;
  // all may throw. Duplicate keys are the sink's to find.
  virtual bool wants(std::string_view path) = 0;
  virtual void key(std::string_view key) = 0;
  virtual void string(std::string_view value) = 0;
  virtual void integer(int64_t value) = 0;
  virtual void other(const char* kind) = 0;  // any other scalar: "null", "a boolean", "a number"
  virtual void begin(bool array) = 0;        // a container inside: an array, else an object
  virtual void end() = 0;
};
Value parse(std::string_view text, std::string_view source, const ParseLimits& limits, Sink& sink);

// Members of an object. `where` begins the sentence of an error ("config.json"). JSON null counts
// as absent. `find` returns nullptr when absent; the typed readers throw Error(kInvalidArgument)
// naming key, expected type and what was found; integers accept 4096.0 but not 0.5.
const Value* find(const Object& object, std::string_view key);
const Object& as_object(const Value& value, std::string_view where);
const Array& as_array(const Value& value, std::string_view where);
std::optional<int64_t> get_int(const Object& object, std::string_view key, std::string_view where);
std::optional<double> get_double(const Object& object, std::string_view key,
                                 std::string_view where);
std::optional<bool> get_bool(const Object& object, std::string_view key, std::string_view where);
std::optional<std::string> get_string(const Object& object, std::string_view key,
                                      std::string_view where);

// Compact text, members in the order in which they stand.
std::string dump(const Value& value);
// `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
std::string quote(std::string_view text);

}  // namespace moxie::json
