// For tests: counts what this program allocates with operator new. Linking test_allocations.cc
// replaces the operator.
#pragma once

namespace moxie::test {

long num_allocations();

}  // namespace moxie::test
