// A folder that appears complete or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace moxie {

// Files are collected in a hidden sibling of `out` (".NAME.moxie-PID"), which takes the name `out`
// by rename in commit(); without commit() the destructor removes it. Siblings that a killed process
// left behind for the same `out` are removed by the constructor.
//
// Throws Error(kIo / kInvalidArgument): `out` exists and is not an empty folder, its parent does
// not exist or cannot be written to, `out` is `in` or lies inside it.
class StagedFolder {
 public:
  // in: a folder that must stay as it is; may be empty.
  StagedFolder(const std::filesystem::path& out, const std::filesystem::path& in);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Error(kIo) names needed and free bytes.
  void require_space(uint64_t needed_bytes) const;

  const std::filesystem::path& path() const { return staging_; }  // where files go until commit()
  void write_file(std::string_view name, std::string_view contents) const;
  // Follows links, as Hugging Face's cache has them; only regular files.
  void copy_file(const std::filesystem::path& from, std::string_view name) const;

  void commit();

 private:
  std::filesystem::path out_, parent_, staging_;
  int lock_ = -1;  // an flock on the hidden folder tells that its process lives
  bool committed_ = false;
};

}  // namespace moxie
