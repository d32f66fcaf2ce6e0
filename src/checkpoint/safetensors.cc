#include "checkpoint/safetensors.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cstring>
#include <limits>
#include <optional>

#include "base/check.h"
#include "base/json.h"

namespace moxie {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxTensors = 200'000;            // the largest published gpt-oss has 687
constexpr size_t kMaxDims = 16;
// Of a header with kMaxTensors tensors of four dimensions; bounds the memory of parsing.
constexpr size_t kMaxValues = kMaxTensors * 10;
constexpr int kMaxDepth = 4;  // header, tensor, shape, number

std::optional<DType> parse_dtype(std::string_view text) {
  for (int i = 0; i < static_cast<int>(DType::kOther); ++i)
    if (text == name(static_cast<DType>(i))) return static_cast<DType>(i);
  return std::nullopt;
}

// A name as it may be printed: quoted, control characters escaped, not endless.
std::string shown(std::string_view tensor) {
  if (tensor.size() <= 200) return json::quote(tensor);
  return json::quote(std::string(tensor.substr(0, 200)) + "...");
}

std::string shown_json(const json::Value& value) {
  std::string text = json::dump(value);
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  return text;
}

struct Range {
  uint64_t begin = 0, end = 0;
  std::string_view tensor;
};

uint64_t as_offset(const json::Value& value, const std::string& where) {
  MOXIE_CHECK(value.is_int64() && value.get_int64() >= 0, kInvalidArgument, where,
              ": data_offsets must be integers from 0 on, found ", shown_json(value));
  return static_cast<uint64_t>(value.get_int64());
}

// Shape, dtype and offsets of one tensor, held against each other and the size of the data.
TensorView parse_tensor(const json::Value& value, const std::string& where,
                        std::span<const uint8_t> data, Range* range) {
  const json::Object& object = json::as_object(value, where);
  const auto dtype_name = json::get_string(object, "dtype", where);
  MOXIE_CHECK(dtype_name, kInvalidArgument, where, ": \"dtype\" is missing");
  const auto dtype = parse_dtype(*dtype_name);
  MOXIE_CHECK(dtype, kUnsupported, where, ": dtype ", shown(*dtype_name),
              " is none that moxie reads; expected BF16, F32, U8 or another of the plain types");

  const json::Value* shape_value = json::find(object, "shape");
  MOXIE_CHECK(shape_value, kInvalidArgument, where, ": \"shape\" is missing");
  const json::Array& dims = json::as_array(*shape_value, where + ": \"shape\"");
  MOXIE_CHECK(dims.size() <= kMaxDims, kInvalidArgument, where, ": ", dims.size(),
              " dimensions, expected at most ", kMaxDims);
  TensorView tensor;
  tensor.dtype = *dtype;
  uint64_t num_bytes = size_bytes(*dtype);
  for (const json::Value& dim : dims) {
    MOXIE_CHECK(dim.is_int64() && dim.get_int64() > 0, kInvalidArgument, where, ": shape ",
                shown_json(*shape_value), ", expected integers from 1 to 2^63 - 1");
    MOXIE_CHECK(
        !__builtin_mul_overflow(num_bytes, static_cast<uint64_t>(dim.get_int64()), &num_bytes) &&
            num_bytes <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
        kInvalidArgument, where, ": shape ", shown_json(*shape_value),
        " asks for more than 2^63 bytes");
    tensor.shape.push_back(dim.get_int64());
  }

  const json::Value* offsets_value = json::find(object, "data_offsets");
  MOXIE_CHECK(offsets_value, kInvalidArgument, where, ": \"data_offsets\" is missing");
  const json::Array& offsets = json::as_array(*offsets_value, where + ": \"data_offsets\"");
  MOXIE_CHECK(offsets.size() == 2, kInvalidArgument, where,
              ": data_offsets must be [begin, end], found ", shown_json(*offsets_value));
  const uint64_t begin = as_offset(offsets[0], where);
  const uint64_t end = as_offset(offsets[1], where);
  MOXIE_CHECK(begin <= end, kInvalidArgument, where, ": data_offsets ", shown_json(*offsets_value),
              " end before they begin");
  MOXIE_CHECK(end <= data.size(), kInvalidArgument, where, ": data_offsets ",
              shown_json(*offsets_value), " reach past the data, which is ", data.size(),
              " bytes; the file is cut short or damaged");
  MOXIE_CHECK(end - begin == num_bytes, kInvalidArgument, where, ": ", *dtype_name, " ",
              shape_to_string(tensor.shape), " takes ", num_bytes, " bytes, but data_offsets ",
              shown_json(*offsets_value), " hold ", end - begin);
  tensor.bytes = data.subspan(begin, num_bytes);
  range->begin = begin;
  range->end = end;
  return tensor;
}

// Every byte of the data belongs to exactly one tensor.
void check_ranges(std::vector<Range> ranges, uint64_t data_bytes, std::string_view source) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  uint64_t end = 0;
  std::string_view before;
  for (const Range& range : ranges) {
    MOXIE_CHECK(range.begin >= end, kInvalidArgument, source, ": tensor ", shown(range.tensor),
                " begins at byte ", range.begin, " of the data and overlaps tensor ", shown(before),
                ", which ends at byte ", end);
    MOXIE_CHECK(range.begin == end, kInvalidArgument, source, ": bytes ", end, " to ", range.begin,
                " of the data, before tensor ", shown(range.tensor),
                ", belong to no tensor; expected no holes");
    end = range.end;
    before = range.tensor;
  }
  MOXIE_CHECK(end == data_bytes, kInvalidArgument, source, ": the tensors end at byte ", end,
              " of the data, but the file holds ", data_bytes,
              " bytes of data; expected nothing behind the last tensor");
}

void parse_metadata(const json::Value& value, const std::string& where,
                    std::map<std::string, std::string>* metadata) {
  for (const auto& [key, text] : json::as_object(value, where)) {
    MOXIE_CHECK(text.is_string(), kInvalidArgument, where, ": ", shown(key),
                " must be a string, found ", shown_json(text));
    if (metadata != nullptr) metadata->emplace(key, std::string(text.get_string()));
  }
}

}  // namespace

int64_t TensorView::num_elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

std::string shape_to_string(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t dim : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(dim);
  }
  return text + "]";
}

std::map<std::string, TensorView, std::less<>> parse_safetensors_header(
    std::string_view header, std::span<const uint8_t> data, std::string_view source,
    std::map<std::string, std::string>* metadata) {
  MOXIE_CHECK(!header.empty() && header[0] == '{', kInvalidArgument, source,
              ": the header does not begin with '{'; expected a safetensors file");
  const json::Value root =
      json::parse(header, concat(source, " (header)"),
                  {.max_depth = kMaxDepth, .max_bytes = kMaxHeaderBytes, .max_values = kMaxValues});
  const json::Object& object = json::as_object(root, source);
  MOXIE_CHECK(object.size() <= kMaxTensors, kInvalidArgument, source, ": ", object.size(),
              " tensors, expected at most ", kMaxTensors);
  std::map<std::string, TensorView, std::less<>> tensors;
  std::vector<Range> ranges;
  ranges.reserve(object.size());
  for (const auto& [key, value] : object) {
    if (key == "__metadata__") {
      parse_metadata(value, concat(source, ": __metadata__"), metadata);
      continue;
    }
    Range range;
    TensorView tensor = parse_tensor(value, concat(source, ": tensor ", shown(key)), data, &range);
    const auto inserted = tensors.emplace(key, std::move(tensor)).first;
    range.tensor = inserted->first;
    ranges.push_back(range);
  }
  check_ranges(std::move(ranges), data.size(), source);
  return tensors;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<MappedFile>(path)) {
  const std::string source = path.string();
  const std::span<const uint8_t> bytes = file_->bytes();
  MOXIE_CHECK(bytes.size() >= 8, kInvalidArgument, source, ": ", bytes.size(),
              " bytes, expected at least the 8 of a safetensors header's length");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | bytes[static_cast<size_t>(i)];
  MOXIE_CHECK(length > 0 && length <= kMaxHeaderBytes, kInvalidArgument, source, ": header length ",
              length, ", expected 1 to ", kMaxHeaderBytes,
              "; this is no safetensors file, or a damaged one");
  MOXIE_CHECK(length <= bytes.size() - 8, kInvalidArgument, source, ": header of ", length,
              " bytes expected from byte 8 on, but the file ends at byte ", bytes.size(),
              "; the file is cut short");
  // A copy, so that nobody changes the text under the parser.
  const std::string header(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  tensors_ = parse_safetensors_header(header, bytes.subspan(8 + length), source, &metadata_);
  for (auto& [key, tensor] : tensors_) tensor.file = file_.get();
}

}  // namespace moxie
