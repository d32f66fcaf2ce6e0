#include <algorithm>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "base/env.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder_file.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// "owner/name" as Hugging Face allows it: two plain names of letters, digits, '-', '_' and '.'.
bool is_model_id(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.size() > 200) return false;
  for (const std::string_view part : {text.substr(0, slash), text.substr(slash + 1)}) {
    const bool plain = std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    });
    if (part.empty() || !plain || part.front() == '.' || part.front() == '-') return false;
  }
  return true;
}

// A download of nothing but the original layout leaves it in a folder of its own.
fs::path with_original(const fs::path& folder) {
  const fs::path original = folder / "original";
  if (!folder_file_exists(folder, "config.json") && folder_file_exists(original, "config.json"))
    return original;
  return folder;
}

fs::path find_snapshot(const fs::path& cached, std::string_view model) {
  const fs::path snapshots = cached / "snapshots";
  if (folder_file_exists(cached / "refs", "main")) {
    std::string hash = read_folder_file(cached / "refs", "main", 1000);
    while (!hash.empty() && (hash.back() == '\n' || hash.back() == ' ')) hash.pop_back();
    MOXIE_CHECK(is_plain_file_name(hash) && is_folder(snapshots / hash), kInvalidArgument,
                (cached / "refs/main").string(), " names the snapshot \"", hash.substr(0, 100),
                "\", which is not in ", snapshots.string(), "; download ", model, " again");
    return snapshots / hash;
  }
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(snapshots, error), end; !error && it != end; it.increment(error))
    if (is_folder(it->path())) found.push_back(it->path());
  MOXIE_CHECK(found.size() == 1, kInvalidArgument, snapshots.string(), " holds ", found.size(),
              " snapshots of ", model, " and refs/main names none; give the folder you mean");
  return found[0];
}

}  // namespace

fs::path resolve_model(std::string_view model) {
  MOXIE_CHECK(!model.empty() && model.find('\0') == std::string_view::npos, kInvalidArgument,
              "the model is empty; expected a folder or an id such as openai/gpt-oss-20b");
  const fs::path path(model);
  std::error_code error;
  if (fs::exists(path, error)) {
    check_is_folder(path);
    return with_original(path);
  }
  const std::string what_to_do =
      "; give a folder with config.json and .safetensors files, or an id such as "
      "openai/gpt-oss-20b of a model that is in the Hugging Face cache";
  MOXIE_CHECK(is_model_id(model), kInvalidArgument, "there is no folder ", model, what_to_do);
  const auto hub = env::hugging_face_hub();
  MOXIE_CHECK(hub, kInvalidArgument, "there is no folder ", model,
              ", and HOME and HF_HOME are not set, so there is no Hugging Face cache to look in",
              what_to_do);
  std::string folder = "models--" + std::string(model);
  folder.replace(folder.find('/'), 1, "--");
  MOXIE_CHECK(is_folder(*hub / folder), kInvalidArgument, "there is no folder ", model, " and no ",
              (*hub / folder).string(),
              " in the Hugging Face cache; download it with: hf download ", model);
  return with_original(find_snapshot(*hub / folder, model));
}

}  // namespace moxie
