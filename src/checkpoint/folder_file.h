// Files of a model folder, found by name, with the rules that keep a folder from leading elsewhere.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace moxie {

// Throws Error(kInvalidArgument) unless `folder` is a folder (or a link to one).
void check_is_folder(const std::filesystem::path& folder);

// A name without '/', NUL and control characters that is neither "." nor "..".
bool is_plain_file_name(std::string_view name);

// Whether the folder has an entry of this name; a link that leads nowhere counts.
bool folder_file_exists(const std::filesystem::path& folder, const std::string& name);

// Throws Error if the entry is a link that leads out of the folder to anything but a regular file
// in the `blobs` of the Hugging Face cache the folder belongs to, or a link that leads nowhere.
// REQUIRES: is_plain_file_name(name).
void check_folder_link(const std::filesystem::path& folder, const std::string& name);

// The whole text of a regular file, the rule above applied. Throws Error(kIo) or
// (kInvalidArgument): absent, unreadable, not a regular file, or larger than `max_bytes`.
std::string read_folder_file(const std::filesystem::path& folder, const std::string& name,
                             size_t max_bytes);

}  // namespace moxie
