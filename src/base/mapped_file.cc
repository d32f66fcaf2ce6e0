#include "base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/check.h"

namespace moxie {
namespace {

// What the SIGBUS handler may look at: fixed memory, written with care, read without locks.
struct Mapping {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  char path[1024] = {};
};
constexpr int kMappings = 256;
Mapping mappings[kMappings];
std::mutex mappings_mutex;

void say(const char* text) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
}

void on_sigbus(int signal_number, siginfo_t* info, void*) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Mapping& mapping : mappings) {
    if (mapping.begin.load() <= address && address < mapping.end.load()) {
      say("moxie: error: ");
      say(mapping.path);
      say(" was cut short or replaced while it was in use; restore the file and start again\n");
      _exit(1);
    }
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void remember(const uint8_t* data, size_t size, const std::filesystem::path& path) {
  const std::lock_guard lock(mappings_mutex);
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, nullptr);
    return true;
  }();
  (void)installed;
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load() != 0) continue;
    std::strncpy(mapping.path, path.c_str(), sizeof mapping.path - 1);
    mapping.end.store(reinterpret_cast<uintptr_t>(data) + size);
    mapping.begin.store(reinterpret_cast<uintptr_t>(data));
    return;
  }
}

void forget(const uint8_t* data) {
  const std::lock_guard lock(mappings_mutex);
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load() != reinterpret_cast<uintptr_t>(data)) continue;
    mapping.begin.store(0);
    mapping.end.store(0);
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not hang.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  MOXIE_CHECK(descriptor >= 0, kIo, "cannot open ", path.string(), ": ", std::strerror(errno));
  struct stat status = {};
  const bool known = fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    close(descriptor);
    throw make_error(ErrorCode::kIo, path.string(),
                     " is not a regular file; expected a file that can be mapped");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    const int reason = errno;
    close(descriptor);
    MOXIE_CHECK(address != MAP_FAILED, kIo, "cannot map ", path.string(), ": ",
                std::strerror(reason));
    data_ = static_cast<const uint8_t*>(address);
    remember(data_, size_, path);
  } else {
    close(descriptor);
  }
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget(data_);
  munmap(const_cast<uint8_t*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

namespace {

void advise(const uint8_t* data, size_t file_size, size_t offset, size_t size, int advice) {
  if (data == nullptr || offset >= file_size) return;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  const size_t end = std::min(file_size, offset + size);
  madvise(const_cast<uint8_t*>(data) + begin, end - begin, advice);
}

}  // namespace

void MappedFile::will_need(size_t offset, size_t size) const {
  advise(data_, size_, offset, size, MADV_WILLNEED);
}
void MappedFile::drop(size_t offset, size_t size) const {
  advise(data_, size_, offset, size, MADV_DONTNEED);
}

}  // namespace moxie
