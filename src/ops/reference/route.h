// The oracles of ops/route.h and ops/row_lists.h.
#pragma once

#include "ops/route.h"

namespace moxie {

// Fill the outputs of checked Args; softmax in float64.
void reference_route(const RouteArgs& args);
void reference_row_lists(const RowListsArgs& args);

}  // namespace moxie
