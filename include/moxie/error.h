// The one exception type of moxie.
//
// Thrown at the edges (loading, set-up, submitting); the sentence says what was expected, what came
// and what to do, and is fit to be shown to a user as it is.
#pragma once

#include <stdexcept>
#include <string>

namespace moxie {

enum class ErrorCode {
  kInvalidArgument,  // the caller's input: a flag, a file, a request
  kUnsupported,      // well-formed, but not something moxie or this machine does
  kIo,               // the operating system refused: file, disk, permission
  kOutOfMemory,      // does not fit; the sentence says by how much
  kDevice,           // an accelerator failed; nothing more will run on it
  kInternal,         // a bug in moxie
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace moxie
