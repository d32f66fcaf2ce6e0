#include "capi/call.h"

#include <cstdio>
#include <new>

namespace moxie::capi {
namespace {

thread_local char last_sentence[1024];

int32_t note(int32_t status, const char* sentence) noexcept {
  std::snprintf(last_sentence, sizeof last_sentence, "%s", sentence);
  return status;
}

}  // namespace

int32_t note_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return note(status_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return note(MOXIE_OUT_OF_MEMORY, "the host has no memory left");
  } catch (const std::exception& error) {
    return note(MOXIE_INTERNAL, error.what());
  } catch (...) {
    return note(MOXIE_INTERNAL, "internal error: an exception of an unknown kind");
  }
}

const char* last_error() noexcept { return last_sentence; }

}  // namespace moxie::capi
