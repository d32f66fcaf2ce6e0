#include "convert/tensor_stream.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace moxie {
namespace {

constexpr uint64_t kHuggingFaceShardBytes = 4'800'000'000;
constexpr size_t kMaxShards = 250;
constexpr uint64_t kOriginalShardBytes = 14'000'000'000;  // gpt-oss-20b is one file of 13.76 GB

// Generous: what a header says of one tensor, with its place in the index.
uint64_t header_bytes(const TensorStream& tensor) { return 2 * tensor.name.size() + 192; }

std::string index_json(const std::map<std::string, std::string>& weight_map, uint64_t total_bytes) {
  std::string text = concat("{\n  \"metadata\": {\n    \"total_size\": ", total_bytes,
                            "\n  },\n  \"weight_map\": {");
  const char* separator = "\n    ";
  for (const auto& [tensor, file] : weight_map) {
    text += concat(separator, json::quote(tensor), ": ", json::quote(file));
    separator = ",\n    ";
  }
  return text + "\n  }\n}\n";
}

}  // namespace

uint64_t TensorStream::size_bytes() const {
  return std::accumulate(
      shape.begin(), shape.end(), uint64_t{moxie::size_bytes(dtype)},
      [](uint64_t product, int64_t extent) { return product * static_cast<uint64_t>(extent); });
}

void drop_pages(const TensorView& tensor, std::span<const uint8_t> piece) {
  if (tensor.file == nullptr || piece.empty()) return;
  tensor.file->drop(static_cast<size_t>(piece.data() - tensor.file->bytes().data()), piece.size());
}

std::function<void(Emit)> copy_of(const TensorView& tensor) {
  return [tensor](Emit emit) {
    for (size_t begin = 0; begin < tensor.bytes.size(); begin += kPieceBytes) {
      const std::span<const uint8_t> rest = tensor.bytes.subspan(begin);
      const std::span<const uint8_t> piece = rest.first(std::min(kPieceBytes, rest.size()));
      if (tensor.file != nullptr) {
        const uint8_t* start = tensor.file->bytes().data();
        tensor.file->will_need(static_cast<size_t>(piece.data() - start) + piece.size(),
                               kPieceBytes);
      }
      emit(piece);
      drop_pages(tensor, piece);
    }
  };
}

std::vector<std::vector<size_t>> cut_into_shards(std::span<const uint64_t> sizes,
                                                 uint64_t max_bytes) {
  std::vector<std::vector<size_t>> shards;
  uint64_t used = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (shards.empty() || (used > 0 && sizes[i] > max_bytes - std::min(used, max_bytes))) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(i);
    used += sizes[i];
  }
  return shards;
}

std::string shard_name(size_t index, size_t count, TargetLayout layout) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model%s%05zu-of-%05zu.safetensors",
                layout == TargetLayout::kOriginal ? "--" : "-", index + 1, count);
  return name;
}

WriteSummary write_tensors(const StagedFolder& folder, std::vector<TensorStream> tensors,
                           TargetLayout layout, uint64_t max_shard_bytes, uint64_t companion_bytes,
                           const Progress& progress) {
  if (max_shard_bytes == 0)
    max_shard_bytes =
        layout == TargetLayout::kOriginal ? kOriginalShardBytes : kHuggingFaceShardBytes;
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorStream& a, const TensorStream& b) { return a.name < b.name; });

  WriteSummary summary;
  summary.num_tensors = static_cast<int64_t>(tensors.size());
  std::vector<uint64_t> sizes;
  uint64_t needed = companion_bytes;
  for (const TensorStream& tensor : tensors) {
    sizes.push_back(tensor.size_bytes());
    summary.tensor_bytes += sizes.back();
    needed += sizes.back() + header_bytes(tensor);
  }
  folder.require_space(needed);

  std::vector<std::vector<size_t>> shards = cut_into_shards(sizes, max_shard_bytes);
  MOXIE_CHECK(shards.size() <= kMaxShards, kInvalidArgument, "files of at most ", max_shard_bytes,
              " bytes would be ", shards.size(), "; moxie reads at most ", kMaxShards,
              ", allow larger ones");
  summary.num_files = static_cast<int>(shards.size());
  std::map<std::string, std::string> weight_map;
  uint64_t done = 0;
  for (size_t shard = 0; shard < shards.size(); ++shard) {
    const std::string file = shard_name(shard, shards.size(), layout);
    std::stable_sort(shards[shard].begin(), shards[shard].end(), [&](size_t a, size_t b) {
      return size_bytes(tensors[a].dtype) > size_bytes(tensors[b].dtype);
    });
    std::vector<SafetensorsWriter::Entry> entries;
    for (const size_t i : shards[shard]) {
      entries.push_back({tensors[i].name, tensors[i].dtype, tensors[i].shape});
      weight_map[tensors[i].name] = file;
    }
    // transformers insists on the metadata.
    SafetensorsWriter writer(folder.path() / file, std::move(entries), {{"format", "pt"}});
    for (const size_t i : shards[shard]) {
      tensors[i].produce([&](std::span<const uint8_t> bytes) {
        if (progress.cancelled && progress.cancelled()) throw Cancelled{};
        writer.write(bytes);
        done += bytes.size();
        if (progress.report) progress.report(done, summary.tensor_bytes, tensors[i].name);
      });
      tensors[i].produce = nullptr;  // and what it holds
    }
    if (progress.cancelled && progress.cancelled()) throw Cancelled{};
    writer.finish();
  }
  if (shards.size() > 1 && layout != TargetLayout::kOriginal)
    folder.write_file("model.safetensors.index.json", index_json(weight_map, summary.tensor_bytes));
  if (progress.cancelled && progress.cancelled()) throw Cancelled{};
  return summary;
}

}  // namespace moxie
