#include "checkpoint/folder_file.h"

#include <algorithm>
#include <system_error>

#include "base/check.h"
#include "base/mapped_file.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

bool lies_in(const fs::path& path, const fs::path& folder) {
  const auto [end, rest] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

// models--owner--name/blobs for a folder in models--owner--name/snapshots/HASH, else empty.
fs::path blobs_of(const fs::path& folder) {
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path()) {
    const fs::path model = at.parent_path().parent_path();
    if (at.parent_path().filename() == "snapshots" &&
        model.filename().string().starts_with("models--"))
      return model / "blobs";
  }
  return {};
}

}  // namespace

void check_is_folder(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  MOXIE_CHECK(fs::exists(status), kInvalidArgument, "there is no folder ", folder.string(),
              "; expected a model folder");
  MOXIE_CHECK(fs::is_directory(status), kInvalidArgument, folder.string(),
              " is not a folder; expected a model folder with config.json and .safetensors files");
}

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '/' || c == '\\' || byte < 0x20 || byte == 0x7f;
  });
}

bool folder_file_exists(const fs::path& folder, const std::string& name) {
  std::error_code error;
  return fs::exists(fs::symlink_status(folder / name, error));
}

void check_folder_link(const fs::path& folder, const std::string& name) {
  MOXIE_CHECK_INTERNAL(is_plain_file_name(name));
  const fs::path path = folder / name;
  std::error_code error;
  if (!fs::is_symlink(fs::symlink_status(path, error))) return;
  const fs::path target = fs::canonical(path, error);
  MOXIE_CHECK(!error, kInvalidArgument, path.string(), " is a link to ",
              fs::read_symlink(path, error).string(),
              ", which cannot be reached; the download is not complete");
  const fs::path root = fs::canonical(folder, error);
  const fs::path blobs = blobs_of(root);
  MOXIE_CHECK(lies_in(target, root) || (!blobs.empty() && lies_in(target, blobs)), kInvalidArgument,
              path.string(), " is a link to ", target.string(),
              "; expected a file in the model folder or in the blobs of its Hugging Face cache");
  MOXIE_CHECK(fs::is_regular_file(fs::status(target, error)), kInvalidArgument, path.string(),
              " is a link to ", target.string(), ", which is not a regular file");
}

std::string read_folder_file(const fs::path& folder, const std::string& name, size_t max_bytes) {
  check_folder_link(folder, name);
  const MappedFile file(folder / name);
  MOXIE_CHECK(file.bytes().size() <= max_bytes, kInvalidArgument, file.path().string(), ": ",
              file.bytes().size(), " bytes, expected at most ", max_bytes);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace moxie
