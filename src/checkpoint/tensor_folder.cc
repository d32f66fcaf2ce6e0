#include <boost/json.hpp>
#include <set>
#include <system_error>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder_file.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr size_t kMaxShards = 250;  // the largest published gpt-oss has 15
constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr size_t kMaxIndexValues = 250'000;

// tensor -> shard file, as the index says. Every name is checked before any file is opened.
std::map<std::string, std::string> read_index(const fs::path& folder) {
  const std::string source = (folder / kIndexName).string();
  const json::Value root =
      json::parse(read_folder_file(folder, kIndexName, kMaxIndexBytes), source,
                  {.max_depth = 8, .max_bytes = kMaxIndexBytes, .max_values = kMaxIndexValues});
  const json::Value* weight_map = json::find(json::as_object(root, source), "weight_map");
  MOXIE_CHECK(weight_map, kInvalidArgument, source,
              ": \"weight_map\" is missing; expected the file of every tensor");
  std::map<std::string, std::string> index;
  for (const auto& [tensor, file] : json::as_object(*weight_map, source + ": \"weight_map\"")) {
    MOXIE_CHECK(file.is_string(), kInvalidArgument, source, ": tensor ", json::quote(tensor),
                ": expected a file name, found ", json::dump(file));
    const std::string shard(file.get_string());
    MOXIE_CHECK(is_plain_file_name(shard) && shard.ends_with(".safetensors"), kInvalidArgument,
                source, ": tensor ", json::quote(tensor), " is said to be in ", json::quote(shard),
                "; expected the name of a .safetensors file in the same folder");
    index.emplace(tensor, shard);
  }
  MOXIE_CHECK(!index.empty(), kInvalidArgument, source, ": \"weight_map\" names no tensor");
  return index;
}

std::set<std::string> list_shards(const fs::path& folder) {
  std::set<std::string> shards;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file.ends_with(".safetensors")) shards.insert(file);
  }
  MOXIE_CHECK(!error, kIo, "cannot read the folder ", folder.string(), ": ", error.message());
  MOXIE_CHECK(!shards.empty(), kInvalidArgument, folder.string(),
              " holds no .safetensors file; expected a model folder (is the download complete?)");
  return shards;
}

std::string dtype_names(std::initializer_list<DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) text += (text.empty() ? "" : " or ") + std::string(name(dtype));
  return text;
}

}  // namespace

TensorFolder::TensorFolder(const fs::path& folder) : folder_(folder) {
  check_is_folder(folder);
  std::map<std::string, std::string> index;
  std::set<std::string> shards;
  if (folder_file_exists(folder, kIndexName)) {
    index = read_index(folder);
    for (const auto& [tensor, shard] : index) shards.insert(shard);
  } else {
    shards = list_shards(folder);
  }
  MOXIE_CHECK(shards.size() <= kMaxShards, kInvalidArgument, folder.string(), ": ", shards.size(),
              " .safetensors files, expected at most ", kMaxShards);
  for (const std::string& shard : shards) {
    MOXIE_CHECK(index.empty() || folder_file_exists(folder, shard), kInvalidArgument,
                (folder / kIndexName).string(), " names ", shard,
                ", which is not in the folder; the download is not complete");
    check_folder_link(folder, shard);
  }

  files_.reserve(shards.size());  // tensors_ points into files_
  for (const std::string& shard : shards) {
    files_.emplace_back(folder / shard);
    for (const auto& [tensor, view] : files_.back().tensors()) {
      const auto [place, fresh] = tensors_.emplace(tensor, &view);
      MOXIE_CHECK(fresh, kInvalidArgument, files_.back().file().path().string(), ": tensor ",
                  json::quote(tensor), " is also in ", place->second->file->path().string(),
                  "; expected every tensor once");
    }
  }
  for (const auto& [tensor, shard] : index) {
    const TensorView* view = find(tensor);
    MOXIE_CHECK(
        view != nullptr && view->file->path().filename() == shard, kInvalidArgument,
        (folder / kIndexName).string(), ": tensor ", json::quote(tensor), " is said to be in ",
        shard, ", but ",
        view == nullptr ? "no file has it" : "it is in " + view->file->path().filename().string());
  }
}

const TensorView* TensorFolder::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

const TensorView& TensorFolder::require(std::string_view tensor,
                                        std::initializer_list<DType> dtypes,
                                        std::span<const int64_t> shape) const {
  const TensorView* view = find(tensor);
  MOXIE_CHECK(view, kInvalidArgument, folder_.string(), ": tensor ", json::quote(tensor),
              " is missing; expected ", dtype_names(dtypes), " ", shape_to_string(shape),
              " (is the checkpoint complete, and its config.json its own?)");
  bool known = false;
  for (const DType dtype : dtypes) known |= view->dtype == dtype;
  MOXIE_CHECK(
      known && std::equal(shape.begin(), shape.end(), view->shape.begin(), view->shape.end()),
      kInvalidArgument, view->file->path().string(), ": tensor ", json::quote(tensor),
      ": expected ", dtype_names(dtypes), " ", shape_to_string(shape), ", found ",
      name(view->dtype), " ", shape_to_string(view->shape));
  return *view;
}

uint64_t TensorFolder::total_bytes() const {
  uint64_t total = 0;
  for (const auto& [tensor, view] : tensors_) total += view->bytes.size();
  return total;
}

}  // namespace moxie
