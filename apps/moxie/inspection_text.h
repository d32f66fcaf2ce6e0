// An Inspection for people and for programs.
#pragma once

#include <span>
#include <string>

#include "inspection.h"

namespace moxie::cli {

// `all_tensors`: nullptr for groups, or the folder whose every tensor is listed.
std::string inspection_text(const Inspection& found, const TensorFolder* all_tensors);
std::string inspection_json(const Inspection& found, const TensorFolder* all_tensors, bool checked,
                            std::span<const std::string> problems);

}  // namespace moxie::cli
