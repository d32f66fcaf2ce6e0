#include "model/value_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/json.h"
#include "mxfp4/block.h"

namespace moxie {
namespace {

constexpr size_t kChunkBytes = size_t{16} << 20;
using mxfp4::kBlockBytes;
using mxfp4::kScaleNaN;

uint64_t load_word(const uint8_t* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// Whether a word of several floating-point numbers holds one whose exponent is all ones: with the
// sign masked off, adding the exponent's lowest bit carries into the sign. No lane carries into the
// next.
struct Lanes {
  uint64_t magnitude, exponent_one, sign;
  size_t bytes;

  uint64_t not_finite(uint64_t word) const { return ((word & magnitude) + exponent_one) & sign; }
};

std::optional<Lanes> lanes_of(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return Lanes{0x7fff7fff7fff7fffu, 0x0080008000800080u, 0x8000800080008000u, 2};
    case DType::kF16:
      return Lanes{0x7fff7fff7fff7fffu, 0x0400040004000400u, 0x8000800080008000u, 2};
    case DType::kF32:
      return Lanes{0x7fffffff7fffffffu, 0x0080000000800000u, 0x8000000080000000u, 4};
    case DType::kF64:
      return Lanes{0x7fffffffffffffffu, 0x0010000000000000u, 0x8000000000000000u, 8};
    default:
      return std::nullopt;
  }
}

// The element's place as indices: "[3, 0, 17]".
std::string place(uint64_t element, std::span<const int64_t> shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = static_cast<int64_t>(element % static_cast<uint64_t>(shape[d]));
    element /= static_cast<uint64_t>(shape[d]);
  }
  return shape_to_string(index);
}

// Four tables: successive equal bytes must not wait for each other's count.
void add_to_histogram(std::span<const uint8_t> bytes, std::array<uint64_t, 256>* histogram) {
  uint64_t counts[4][256] = {};
  size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4)
    for (size_t lane = 0; lane < 4; ++lane) ++counts[lane][bytes[i + lane]];
  for (; i < bytes.size(); ++i) ++counts[0][bytes[i]];
  for (size_t byte = 0; byte < 256; ++byte)
    for (const auto& lane : counts) (*histogram)[byte] += lane[byte];
}

class Checker {
 public:
  Checker(const TensorFolder& folder,
          FunctionRef<void(uint64_t, uint64_t, std::string_view)> progress)
      : folder_(folder), progress_(progress), total_bytes_(folder.total_bytes()) {}

  ValueReport run() {
    // File by file in the order of the data, as disks like it.
    std::vector<std::pair<std::string_view, const TensorView*>> tensors;
    for (const auto& [name, view] : folder_.tensors()) tensors.emplace_back(name, view);
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second->file->path(), a.second->bytes.data()) <
             std::pair(b.second->file->path(), b.second->bytes.data());
    });
    for (const auto& [name, view] : tensors) check(name, *view);
    progress_(report_.bytes_read, total_bytes_, "");
    return std::move(report_);
  }

 private:
  void check(std::string_view name, const TensorView& view) {
    if (lanes_of(view.dtype)) {
      check_floats(name, view);
    } else if (view.dtype == DType::kU8 && name.ends_with("scales")) {
      check_scales(name, view);
    } else {
      const bool codes = view.dtype == DType::kU8 && name.ends_with("blocks");
      uint64_t zeros = 0;
      in_chunks(name, view, [&](std::span<const uint8_t> bytes, uint64_t) {
        zeros += mxfp4::count_zero_codes(bytes);  // reads every byte, of whatever kind
      });
      if (!codes) return;
      if (folder_.find(partner(name, "blocks", "scales")) == nullptr)
        report_.problems.push_back(concat(where(name, view), ": has no scales; expected a tensor ",
                                          json::quote(partner(name, "blocks", "scales"))));
      report_.num_codes += 2 * view.bytes.size();
      report_.num_zero_codes += zeros;
    }
  }

  void check_floats(std::string_view name, const TensorView& view) {
    uint64_t bad = 0, first = 0;
    in_chunks(name, view, [&](std::span<const uint8_t> bytes, uint64_t offset) {
      uint64_t first_here = 0;
      const uint64_t bad_here = count_not_finite(bytes, view.dtype, &first_here);
      if (bad == 0 && bad_here > 0) first = offset / size_bytes(view.dtype) + first_here;
      bad += bad_here;
    });
    if (bad == 0) return;
    report_.problems.push_back(concat(where(name, view), ": ", bad, " of ", view.num_elements(),
                                      " values are NaN or infinite, the first at ",
                                      place(first, view.shape), "; expected finite weights"));
  }

  void check_scales(std::string_view name, const TensorView& view) {
    std::array<uint64_t, 256> histogram = {};
    in_chunks(name, view, [&](std::span<const uint8_t> bytes, uint64_t) {
      add_to_histogram(bytes, &histogram);
    });
    for (size_t byte = 0; byte < 256; ++byte) report_.scale_histogram[byte] += histogram[byte];

    const TensorView* blocks = folder_.find(partner(name, "scales", "blocks"));
    if (blocks == nullptr || blocks->dtype != DType::kU8 ||
        blocks->bytes.size() != view.bytes.size() * size_t{kBlockBytes}) {
      report_.problems.push_back(concat(
          where(name, view), ": U8 ", shape_to_string(view.shape), " has ",
          blocks == nullptr
              ? "no blocks"
              : concat("blocks ", moxie::name(blocks->dtype), " ", shape_to_string(blocks->shape)),
          "; expected U8 blocks of the same shape with 16 bytes to a scale"));
      return;
    }
    if (histogram[kScaleNaN] > 0) {
      const uint8_t* found =
          std::find(view.bytes.data(), view.bytes.data() + view.bytes.size(), kScaleNaN);
      report_.problems.push_back(
          concat(where(name, view), ": ", histogram[kScaleNaN], " of ", view.bytes.size(),
                 " scales are 255, which is NaN, the first at ",
                 place(static_cast<uint64_t>(found - view.bytes.data()), view.shape),
                 "; expected 0 to 252"));
    }
    bool any_large = false;
    for (size_t byte = mxfp4::kFirstScaleThatMayOverflow; byte < kScaleNaN; ++byte)
      any_large |= histogram[byte] > 0;
    if (any_large) check_overflow(name, view, *blocks);
  }

  // Rare: the codes decide whether a very large scale overflows.
  void check_overflow(std::string_view name, const TensorView& scales, const TensorView& blocks) {
    uint64_t bad = 0, first = 0;
    for (uint64_t i = 0; i < scales.bytes.size(); ++i) {
      const uint8_t scale = scales.bytes[i];
      if (scale < mxfp4::kFirstScaleThatMayOverflow || scale == kScaleNaN) continue;
      const auto codes = blocks.bytes.subspan(i * kBlockBytes, kBlockBytes);
      const bool over = std::any_of(codes.begin(), codes.end(), [&](uint8_t pair) {
        return mxfp4::overflows(pair & 15, scale) || mxfp4::overflows(pair >> 4, scale);
      });
      if (!over) continue;
      if (bad++ == 0) first = i;
    }
    if (bad == 0) return;
    report_.problems.push_back(concat(where(name, scales), ": ", bad,
                                      " blocks overflow, the first with scale ",
                                      int{scales.bytes[first]}, " at ", place(first, scales.shape),
                                      "; expected scales whose values stay finite"));
  }

  // `visit` gets pieces of a multiple of 16 bytes, but for the last, and where they begin.
  void in_chunks(std::string_view name, const TensorView& view,
                 FunctionRef<void(std::span<const uint8_t>, uint64_t)> visit) {
    const uint8_t* base = view.file->bytes().data();
    for (uint64_t offset = 0; offset < view.bytes.size(); offset += kChunkBytes) {
      const auto piece =
          view.bytes.subspan(offset, std::min<uint64_t>(kChunkBytes, view.bytes.size() - offset));
      const auto in_file = static_cast<size_t>(piece.data() - base);
      progress_(report_.bytes_read, total_bytes_, name);
      view.file->will_need(in_file, piece.size() + kChunkBytes);
      visit(piece, offset);
      view.file->drop(in_file, piece.size());
      report_.bytes_read += piece.size();
    }
  }

  // "x_blocks" for "x_scales": the tensor that goes with this one.
  static std::string partner(std::string_view name, std::string_view from, std::string_view to) {
    return std::string(name.substr(0, name.size() - from.size())) + std::string(to);
  }

  static std::string where(std::string_view name, const TensorView& view) {
    return concat(view.file->path().string(), ": tensor ", json::quote(name));
  }

  const TensorFolder& folder_;
  FunctionRef<void(uint64_t, uint64_t, std::string_view)> progress_;
  const uint64_t total_bytes_;
  ValueReport report_;
};

}  // namespace

uint64_t count_not_finite(std::span<const uint8_t> bytes, DType dtype, uint64_t* first) {
  const auto lanes = lanes_of(dtype);
  MOXIE_CHECK_INTERNAL(lanes && bytes.size() % lanes->bytes == 0);
  constexpr size_t kStride = 512;  // bytes looked at before asking whether any was bad
  uint64_t count = 0;
  const auto look_closely = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += lanes->bytes) {
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, lanes->bytes);
      if (lanes->not_finite(word) == 0) continue;
      if (count++ == 0) *first = i / lanes->bytes;
    }
  };
  size_t at = 0;
  const Lanes l = *lanes;
  for (; at + kStride <= bytes.size(); at += kStride) {
    uint64_t bad = 0;
    for (size_t i = 0; i < kStride; i += 8) bad |= l.not_finite(load_word(bytes.data() + at + i));
    if (bad != 0) look_closely(at, at + kStride);
  }
  look_closely(at, bytes.size());
  return count;
}

ValueReport check_tensor_values(
    const TensorFolder& folder,
    FunctionRef<void(uint64_t done_bytes, uint64_t total_bytes, std::string_view tensor)>
        progress) {
  return Checker(folder, progress).run();
}

}  // namespace moxie
