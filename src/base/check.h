// Raising moxie::Error with what was expected, what came and what to do.
//
//   MOXIE_CHECK(k % 32 == 0, kInvalidArgument, "k must be a multiple of 32, got ", k);
//   throw make_error(ErrorCode::kIo, "cannot open ", path, ": ", reason);
//
// The sentence is built from the pieces with operator<<, only when the check fails.
#pragma once

#include <sstream>
#include <string>

#include "moxie/error.h"

namespace moxie {

template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  std::ostringstream text;
  (text << ... << pieces);
  return std::move(text).str();
}

template <class... Pieces>
Error make_error(ErrorCode code, const Pieces&... pieces) {
  return Error(code, concat(pieces...));
}

}  // namespace moxie

#define MOXIE_CHECK(condition, code, ...)                               \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      throw ::moxie::make_error(::moxie::ErrorCode::code, __VA_ARGS__); \
  } while (false)

// For what only a bug in moxie can break; names the expression and the place by itself.
#define MOXIE_CHECK_INTERNAL(condition)                                                        \
  do {                                                                                         \
    if (!(condition)) [[unlikely]]                                                             \
      throw ::moxie::make_error(::moxie::ErrorCode::kInternal, "internal error: ", #condition, \
                                " does not hold at ", __FILE__, ":", __LINE__);                \
  } while (false)
