// Large blocks of memory straight from the operating system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace moxie {

// Zero-filled, page-aligned, reserved at once and backed by pages as they are touched; asks for
// huge pages. Move-only. Throws Error(kOutOfMemory) naming the size.
class PageBuffer {
 public:
  PageBuffer() = default;
  explicit PageBuffer(size_t size_bytes);
  ~PageBuffer();
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&& other) noexcept;

  uint8_t* data() const { return data_; }
  size_t size_bytes() const { return size_; }

  template <class T>
  std::span<T> as() const {
    static_assert(std::is_trivially_copyable_v<T>);
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Resident memory of this process from /proc/self/status, in bytes.
struct ResidentMemory {
  size_t anonymous_bytes = 0;
  size_t mapped_file_bytes = 0;
  size_t peak_bytes = 0;  // both kinds together, high-water mark
};
ResidentMemory resident_memory();

}  // namespace moxie
