#include "convert/staged_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/check.h"
#include "base/mapped_file.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

// The folder `out` means, without links, dots and a slash at the end.
fs::path resolved(const fs::path& out) {
  MOXIE_CHECK(!out.empty(), kInvalidArgument, "the name of the output folder is empty");
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(out), error);
  MOXIE_CHECK(!error, kIo, "cannot resolve ", out.string(), ": ", error.message());
  path = path.lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

void check_target(const fs::path& out, const fs::path& parent) {
  std::error_code error;
  MOXIE_CHECK(fs::is_directory(parent, error), kIo, "cannot make ", out.string(), ": ",
              parent.string(), " is not a folder; make it first");
  const fs::file_status status = fs::symlink_status(out, error);
  if (status.type() == fs::file_type::not_found) return;
  MOXIE_CHECK(fs::is_directory(status), kInvalidArgument, out.string(),
              " exists and is not a folder; nothing is overwritten, choose another name");
  const bool empty = fs::is_empty(out, error);
  MOXIE_CHECK(!error, kIo, "cannot read ", out.string(), ": ", error.message());
  MOXIE_CHECK(empty, kInvalidArgument, out.string(),
              " exists and is not empty; nothing is overwritten, choose another name");
}

int open_folder(const fs::path& folder) {
  return open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// What processes that were killed left behind: hidden folders that nobody holds a lock on.
void remove_leftovers(const fs::path& parent, const std::string& prefix) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    if (!entry.path().filename().string().starts_with(prefix)) continue;
    const int folder = open_folder(entry.path());
    if (folder < 0) continue;
    if (flock(folder, LOCK_EX | LOCK_NB) == 0) fs::remove_all(entry.path(), error);
    close(folder);
  }
}

void sync_folder(const fs::path& folder) {
  const int descriptor = open_folder(folder);
  if (descriptor < 0) return;
  fsync(descriptor);  // some file systems cannot; the rename is atomic all the same
  close(descriptor);
}

void write_all(int descriptor, const uint8_t* data, size_t size, const fs::path& path) {
  while (size > 0) {
    const ssize_t written = write(descriptor, data, size);
    if (written < 0 && errno == EINTR) continue;
    MOXIE_CHECK(written > 0, kIo, "cannot write ", path.string(), ": ",
                written < 0 ? std::strerror(errno) : "nothing was accepted",
                "; nothing is left behind, free some space and start again");
    data += written;
    size -= static_cast<size_t>(written);
  }
}

void create_file(const fs::path& path, const uint8_t* data, size_t size) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  MOXIE_CHECK(descriptor >= 0, kIo, "cannot make ", path.string(), ": ", std::strerror(errno));
  try {
    write_all(descriptor, data, size, path);
    MOXIE_CHECK(fsync(descriptor) == 0 || errno == EINVAL, kIo, "cannot write ", path.string(),
                ": ", std::strerror(errno));
  } catch (...) {
    close(descriptor);
    throw;
  }
  MOXIE_CHECK(close(descriptor) == 0, kIo, "cannot write ", path.string(), ": ",
              std::strerror(errno));
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& out, const fs::path& in) : out_(resolved(out)) {
  parent_ = out_.parent_path();
  if (!in.empty()) {
    const fs::path source = resolved(in);
    MOXIE_CHECK(source != out_, kInvalidArgument, "input and output are the same folder, ",
                out_.string(), "; choose another name for the output");
    MOXIE_CHECK(!is_inside(out_, source), kInvalidArgument, "the output ", out_.string(),
                " lies inside the input ", source.string(), ", which must stay as it is");
  }
  check_target(out_, parent_);
  const std::string prefix = "." + out_.filename().string() + ".moxie-";
  remove_leftovers(parent_, prefix);
  staging_ = parent_ / (prefix + std::to_string(getpid()));
  MOXIE_CHECK(mkdir(staging_.c_str(), 0777) == 0, kIo, "cannot make a folder in ", parent_.string(),
              ": ", std::strerror(errno));
  lock_ = open_folder(staging_);
  if (lock_ >= 0) flock(lock_, LOCK_EX | LOCK_NB);
}

StagedFolder::~StagedFolder() {
  if (!committed_) {
    std::error_code error;
    fs::remove_all(staging_, error);
  }
  if (lock_ >= 0) close(lock_);
}

void StagedFolder::require_space(uint64_t needed_bytes) const {
  std::error_code error;
  const fs::space_info space = fs::space(staging_, error);
  MOXIE_CHECK(!error, kIo, "cannot tell the free space of ", parent_.string(), ": ",
              error.message());
  MOXIE_CHECK(space.available >= needed_bytes, kIo, out_.string(), " needs ", needed_bytes,
              " bytes, ", parent_.string(), " has ", space.available,
              " free; free some space or choose another place");
}

void StagedFolder::write_file(std::string_view name, std::string_view contents) const {
  create_file(staging_ / name, reinterpret_cast<const uint8_t*>(contents.data()), contents.size());
}

void StagedFolder::copy_file(const fs::path& from, std::string_view name) const {
  const MappedFile source(from);
  create_file(staging_ / name, source.bytes().data(), source.bytes().size());
}

void StagedFolder::commit() {
  sync_folder(staging_);
  // Replaces an empty folder; fails if somebody has put anything there meanwhile.
  MOXIE_CHECK(std::rename(staging_.c_str(), out_.c_str()) == 0, kIo, "cannot rename ",
              staging_.string(), " to ", out_.string(), ": ", std::strerror(errno));
  committed_ = true;
  sync_folder(parent_);
}

}  // namespace moxie
