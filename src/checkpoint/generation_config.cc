#include <boost/json.hpp>
#include <limits>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder_file.h"

namespace moxie {
namespace {

constexpr const char* kFileName = "generation_config.json";
constexpr size_t kMaxBytes = size_t{1} << 20;

int32_t as_token_id(const json::Value& value, const std::string& where) {
  MOXIE_CHECK(value.is_int64() && value.get_int64() >= 0 &&
                  value.get_int64() <= std::numeric_limits<int32_t>::max(),
              kInvalidArgument, where,
              ": \"eos_token_id\" must be a token id or a list of ids, "
              "found ",
              json::dump(value).substr(0, 80));
  return static_cast<int32_t>(value.get_int64());
}

std::optional<double> read_between(const json::Object& object, const char* key, double low,
                                   double high, const std::string& where) {
  const auto value = json::get_double(object, key, where);
  MOXIE_CHECK(!value || (*value >= low && *value <= high), kInvalidArgument, where, ": \"", key,
              "\" must be from ", low, " to ", high, ", found ", *value);
  return value;
}

}  // namespace

GenerationConfig read_generation_config(const std::filesystem::path& folder) {
  GenerationConfig config;
  if (!folder_file_exists(folder, kFileName)) return config;
  const std::string where = (folder / kFileName).string();
  const json::Value root =
      json::parse(read_folder_file(folder, kFileName, kMaxBytes), where,
                  {.max_depth = 16, .max_bytes = kMaxBytes, .max_values = 20'000});
  const json::Object& object = json::as_object(root, where);
  if (const json::Value* eos = json::find(object, "eos_token_id")) {
    if (eos->is_array()) {
      for (const json::Value& id : eos->get_array())
        config.eos_token_ids.push_back(as_token_id(id, where));
    } else {
      config.eos_token_ids.push_back(as_token_id(*eos, where));
    }
  }
  config.temperature = read_between(object, "temperature", 0, 1e6, where);
  config.top_p = read_between(object, "top_p", 0, 1, where);
  config.min_p = read_between(object, "min_p", 0, 1, where);
  config.top_k = json::get_int(object, "top_k", where);
  MOXIE_CHECK(!config.top_k || *config.top_k >= 0, kInvalidArgument, where,
              ": \"top_k\" must be 0 or more, found ", *config.top_k);
  return config;
}

}  // namespace moxie
