// A workspace cut into typed parts, each 256-byte aligned.
#pragma once

#include <cstdint>

namespace moxie::hopper {

// Takes parts one after another; with null memory only their size counts.
class WorkspaceParts {
 public:
  explicit WorkspaceParts(void* memory) : begin_(static_cast<unsigned char*>(memory)) {}
  int64_t bytes() const { return bytes_; }

 protected:
  template <class T>
  T* take(int64_t size) {
    T* part = reinterpret_cast<T*>(begin_ + bytes_);
    bytes_ += (size * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return part;
  }

 private:
  unsigned char* begin_;
  int64_t bytes_ = 0;
};

}  // namespace moxie::hopper
