#include "base/test_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> count{0};

void* counted_or_null(size_t size, size_t alignment) {
  count.fetch_add(1, std::memory_order_relaxed);
  if (size == 0) size = 1;
  if (alignment == 0) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* counted(size_t size, size_t alignment) {
  if (void* memory = counted_or_null(size, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

namespace moxie::test {

long num_allocations() { return count.load(); }

}  // namespace moxie::test

// In a file of their own, so that the compiler does not inline one of a pair and miss the other.
// Every form, as those left out would be a sanitizer's own, which frees nothing that malloc gave.
using std::align_val_t, std::nothrow_t;
void* operator new(size_t size) { return counted(size, 0); }
void* operator new[](size_t size) { return counted(size, 0); }
void* operator new(size_t size, align_val_t a) { return counted(size, static_cast<size_t>(a)); }
void* operator new[](size_t size, align_val_t a) { return counted(size, static_cast<size_t>(a)); }
void* operator new(size_t size, const nothrow_t&) noexcept { return counted_or_null(size, 0); }
void* operator new[](size_t size, const nothrow_t&) noexcept { return counted_or_null(size, 0); }
void* operator new(size_t size, align_val_t a, const nothrow_t&) noexcept {
  return counted_or_null(size, static_cast<size_t>(a));
}
void* operator new[](size_t size, align_val_t a, const nothrow_t&) noexcept {
  return counted_or_null(size, static_cast<size_t>(a));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, align_val_t, const nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, align_val_t, const nothrow_t&) noexcept { std::free(memory); }
