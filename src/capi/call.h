// What stands between a C function and the C++ behind it: statuses, the last error, versioned
// structs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "moxie/moxie.h"

namespace moxie::capi {

// The status of an Error's code.
constexpr int32_t status_of(ErrorCode code) { return 1 + static_cast<int32_t>(code); }
static_assert(status_of(ErrorCode::kInvalidArgument) == MOXIE_INVALID_ARGUMENT);
static_assert(status_of(ErrorCode::kUnsupported) == MOXIE_UNSUPPORTED);
static_assert(status_of(ErrorCode::kIo) == MOXIE_IO);
static_assert(status_of(ErrorCode::kOutOfMemory) == MOXIE_OUT_OF_MEMORY);
static_assert(status_of(ErrorCode::kDevice) == MOXIE_DEVICE);
static_assert(status_of(ErrorCode::kInternal) == MOXIE_INTERNAL);

// Notes the sentence, cut to what there is room for, as this thread's last error; returns the
// status. Must be called in a catch block. Allocates nothing.
int32_t note_current_exception() noexcept;
const char* last_error() noexcept;

template <class Body>
int32_t call(const Body& body) noexcept {
  try {
    body();
    return MOXIE_OK;
  } catch (...) {
    return note_current_exception();
  }
}

// What the caller's struct says, whatever header it was compiled with; `name` is that of the
// struct. Structs begin with struct_size and consist of 8-byte units.
template <class T>
T read_struct(const T* from, const char* name) {
  static_assert(sizeof(T) % 8 == 0);
  constexpr uint32_t kMaxBytes = 4096;  // no struct will ever be as large
  MOXIE_CHECK(from != nullptr, kInvalidArgument, "the ", name, " is null");
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof size);
  MOXIE_CHECK(size >= 8 && size % 8 == 0 && size <= kMaxBytes, kInvalidArgument, "struct_size of ",
              name, " is ", size, "; set it to sizeof(", name, ")");
  T value{};
  std::memcpy(&value, from, std::min<size_t>(size, sizeof(T)));
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (uint32_t i = sizeof(T); i < size; ++i)
    MOXIE_CHECK(bytes[i] == 0, kUnsupported, name, " has a field at byte ", i / 4 * 4,
                " that this libmoxie (ABI ", MOXIE_ABI_MAJOR, ".", MOXIE_ABI_MINOR,
                ") does not know; leave it zero or install a newer one");
  return value;
}

// A field of which this version knows the values 0 .. last.
inline void check_choice(const char* name, const char* field, uint32_t value, uint32_t last) {
  MOXIE_CHECK(value <= last, kUnsupported, field, " of ", name, " is ", value,
              ", which this libmoxie does not know; the last it knows is ", last);
}

}  // namespace moxie::capi
