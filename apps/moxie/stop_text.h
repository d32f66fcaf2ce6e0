// Ends a stream of text at the first of several stop texts, which is left out itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moxie::cli {

// push() returns what is certainly before any stop text; what may be the beginning of one is held
// back until more is known. After stopped() nothing comes any more.
class StopText {
 public:
  explicit StopText(std::vector<std::string> stops);  // empty ones are ignored
  std::string push(std::string_view text);
  std::string finish();  // what is still held back
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace moxie::cli
