// Names of the enumerations of moxie/chat.h, and back.
#include "moxie/chat.h"

namespace moxie {
namespace {

template <class Enum, size_t N>
std::optional<Enum> parse_enum(std::string_view text, const std::array<const char*, N>& names) {
  for (size_t i = 0; i < N; ++i)
    if (text == names[i]) return static_cast<Enum>(i);
  return std::nullopt;
}

constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool"};
constexpr std::array kEfforts = {"low", "medium", "high"};
constexpr std::array kRecoveries = {
    "stop_outside_message", "missing_start",   "restarted_header",   "unknown_role",
    "empty_channel",        "unknown_channel", "repeated_channel",   "extra_header_text",
    "missing_message",      "control_in_name", "glued_content_type", "missing_namespace",
    "control_in_content",   "unknown_token",   "invalid_utf8"};
static_assert(kRecoveries.size() == static_cast<size_t>(Recovery::kCount));

}  // namespace

const char* name(Role role) { return kRoles[static_cast<size_t>(role)]; }
std::optional<Role> parse_role(std::string_view text) { return parse_enum<Role>(text, kRoles); }

const char* name(ReasoningEffort effort) { return kEfforts[static_cast<size_t>(effort)]; }
std::optional<ReasoningEffort> parse_effort(std::string_view text) {
  return parse_enum<ReasoningEffort>(text, kEfforts);
}

const char* name(Recovery recovery) { return kRecoveries[static_cast<size_t>(recovery)]; }

}  // namespace moxie
