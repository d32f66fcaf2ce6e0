// What the system message says about the tools that gpt-oss was trained with, word for word.
#pragma once

#include <string_view>

namespace moxie::harmony {

extern const std::string_view kBrowserSection;
extern const std::string_view kPythonSection;

}  // namespace moxie::harmony
