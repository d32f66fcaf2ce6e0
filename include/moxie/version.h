// The version of the moxie library a program runs with.
#pragma once

namespace moxie {

// "MAJOR.MINOR.PATCH"; lives for ever.
const char* version();

}  // namespace moxie
