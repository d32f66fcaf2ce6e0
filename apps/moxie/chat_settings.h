// The settings that `/set` changes in a chat and `/show` prints.
#pragma once

#include <string>
#include <string_view>

#include "conversation.h"

namespace moxie::cli {

// Sets what `name` names to what `value` says. Throws Error(kInvalidArgument) naming what would be
// accepted; nothing is changed then.
void set(Settings& settings, std::string& reasoning, std::string_view name,
         const std::string& value);
// "name   value" lines for people.
std::string show(const Settings& settings, const std::string& reasoning);
// One line per setting: name, values, meaning.
std::string setting_help();

}  // namespace moxie::cli
