// A whole regular file, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace moxie {

// Move-only owner of the mapping; bytes() is valid while it lives.
//
// Opening refuses, with a sentence that names the path: a missing or unreadable file, a folder, a
// FIFO or device. If the file is cut short by another process while it is mapped, touching the lost
// pages would raise SIGBUS: the handler installed by the first open prints one sentence naming the
// file and ends the process with exit code 1.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Hints to the kernel; never fail.
  void will_need(size_t offset, size_t size) const;
  void drop(size_t offset,
            size_t size) const;  // give back the resident pages; contents stay readable

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace moxie
