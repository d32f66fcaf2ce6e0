#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace moxie {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kDataAlignment = 64;

// What to do about an errno of a write.
Error write_error(const std::filesystem::path& path, int reason) {
  switch (reason) {
    case ENOSPC:
    case EDQUOT:
      return make_error(ErrorCode::kIo, "cannot write ", path.string(), ": ", std::strerror(reason),
                        "; free some space or choose another folder, then start again");
    case EFBIG:
      return make_error(ErrorCode::kIo, "cannot write ", path.string(),
                        ": larger than this file system or the process's limit (ulimit -f) "
                        "allows; choose another folder");
    default:
      return make_error(ErrorCode::kIo, "cannot write ", path.string(), ": ",
                        std::strerror(reason));
  }
}

std::string build_header(const std::vector<SafetensorsWriter::Entry>& entries,
                         const std::map<std::string, std::string>& metadata, uint64_t* data_bytes) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    const char* separator = "";
    for (const auto& [key, value] : metadata) {
      header += separator + json::quote(key) + ":" + json::quote(value);
      separator = ",";
    }
    header += "}";
  }
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const auto& entry : entries) {
    MOXIE_CHECK(names.insert(entry.name).second && entry.name != "__metadata__", kInvalidArgument,
                "cannot write tensor ", json::quote(entry.name),
                " twice, or under a reserved name");
    uint64_t size = size_bytes(entry.dtype);
    MOXIE_CHECK(size > 0, kInvalidArgument, "tensor ", json::quote(entry.name),
                ": a dtype that safetensors does not have");
    std::string shape;
    for (const int64_t dim : entry.shape) {
      MOXIE_CHECK(dim > 0 && !__builtin_mul_overflow(size, static_cast<uint64_t>(dim), &size),
                  kInvalidArgument, "tensor ", json::quote(entry.name), ": shape ",
                  shape_to_string(entry.shape), " is empty or overflows");
      if (!shape.empty()) shape += ",";
      shape += std::to_string(dim);
    }
    const uint64_t begin = offset;
    MOXIE_CHECK(!__builtin_add_overflow(offset, size, &offset) &&
                    offset <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 2,
                kInvalidArgument, "tensors of more than 2^62 bytes cannot be written");
    if (header.size() > 1) header += ",";
    header += json::quote(entry.name) + ":{\"dtype\":\"" + name(entry.dtype) + "\",\"shape\":[" +
              shape + "],\"data_offsets\":[" + std::to_string(begin) + "," +
              std::to_string(offset) + "]}";
  }
  header += "}";
  while ((8 + header.size()) % kDataAlignment != 0) header += ' ';
  *data_bytes = offset;
  return header;
}

}  // namespace

struct SafetensorsWriter::State {
  std::filesystem::path path, part;
  int descriptor = -1;
  uint64_t total = 0;    // bytes of the whole file
  uint64_t written = 0;  // announced bytes taken so far, those in `buffer` included
  std::vector<uint8_t> buffer;

  ~State() {
    if (descriptor < 0) return;
    unlink(part.c_str());
    close(descriptor);
  }

  void write_through(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw write_error(path, errno);
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
  }
  void flush() {
    write_through(buffer);
    buffer.clear();
  }
};

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<Entry> entries,
                                     const std::map<std::string, std::string>& metadata)
    : state_(std::make_unique<State>()) {
  uint64_t data_bytes = 0;
  const std::string header = build_header(entries, metadata, &data_bytes);
  State& state = *state_;
  state.path = path;
  state.part = path;
  state.part += ".part";
  state.total = 8 + header.size() + data_bytes;

  // Not truncated yet: another process may be writing it, or its space may be what is missing.
  const int descriptor =
      open(state.part.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0666);
  MOXIE_CHECK(descriptor >= 0, kIo, "cannot create ", state.part.string(), ": ",
              std::strerror(errno));
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    close(descriptor);
    throw make_error(ErrorCode::kIo, state.part.string(),
                     " is being written by another process; wait for it or choose another name");
  }
  state.descriptor = descriptor;
  if (ftruncate(descriptor, 0) != 0) throw write_error(path, errno);

  struct statvfs space = {};
  if (fstatvfs(descriptor, &space) == 0) {
    const uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
    MOXIE_CHECK(free_bytes >= state.total, kIo, "not enough free space for ", path.string(), ": ",
                state.total, " bytes needed, ", free_bytes,
                " free; free some space or choose another folder");
  }
  // Taken now where the file system can, so that a full disk shows before an hour of work.
  if (fallocate(descriptor, 0, 0, static_cast<off_t>(state.total)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
    throw write_error(path, errno);

  state.buffer.reserve(kBufferBytes);
  for (int i = 0; i < 8; ++i)
    state.buffer.push_back(static_cast<uint8_t>(header.size() >> (8 * i)));
  state.buffer.insert(state.buffer.end(), header.begin(), header.end());
  state.written = state.buffer.size();
}

SafetensorsWriter::~SafetensorsWriter() = default;
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;

void SafetensorsWriter::write(std::span<const uint8_t> bytes) {
  State& state = *state_;
  MOXIE_CHECK_INTERNAL(bytes.size() <= state.total - state.written);
  state.written += bytes.size();
  if (state.buffer.size() + bytes.size() > kBufferBytes) state.flush();
  if (bytes.size() >= kBufferBytes) {
    state.write_through(bytes);
  } else {
    state.buffer.insert(state.buffer.end(), bytes.begin(), bytes.end());
  }
}

void SafetensorsWriter::finish() {
  State& state = *state_;
  MOXIE_CHECK_INTERNAL(state.written == state.total);
  state.flush();
  if (fsync(state.descriptor) != 0) throw write_error(state.path, errno);
  if (rename(state.part.c_str(), state.path.c_str()) != 0)
    throw make_error(ErrorCode::kIo, "cannot rename ", state.part.string(), " to ",
                     state.path.string(), ": ", std::strerror(errno));
  close(state.descriptor);
  state.descriptor = -1;
  // The name must survive a power cut as the bytes do.
  const std::filesystem::path folder =
      state.path.has_parent_path() ? state.path.parent_path() : std::filesystem::path(".");
  const int folder_descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_descriptor >= 0) {
    fsync(folder_descriptor);
    close(folder_descriptor);
  }
}

uint64_t SafetensorsWriter::total_bytes() const { return state_->total; }

}  // namespace moxie
