#include "base/memory.h"

#include <sys/mman.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "base/check.h"

namespace moxie {

PageBuffer::PageBuffer(size_t size_bytes) : size_(size_bytes) {
  if (size_bytes == 0) return;
  void* address = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MOXIE_CHECK(address != MAP_FAILED, kOutOfMemory, "cannot reserve ", size_bytes >> 20,
              " MiB of memory; lower --ctx or free some memory");
  madvise(address, size_bytes, MADV_HUGEPAGE);
  data_ = static_cast<uint8_t*>(address);
}

PageBuffer::~PageBuffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

ResidentMemory resident_memory() {
  ResidentMemory memory;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    std::istringstream fields(line);
    std::string key;
    size_t kib = 0;
    if (!(fields >> key >> kib)) continue;
    if (key == "RssAnon:") memory.anonymous_bytes = kib * 1024;
    if (key == "RssFile:") memory.mapped_file_bytes = kib * 1024;
    if (key == "VmHWM:") memory.peak_bytes = kib * 1024;
  }
  return memory;
}

}  // namespace moxie
