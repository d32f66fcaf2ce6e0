#include "base/env.h"

#include <cstdlib>

namespace moxie::env {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::optional<std::filesystem::path> home() {
  if (auto value = variable("HOME")) return *value;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> cpu_isa() { return variable("MOXIE_CPU_ISA"); }

std::optional<std::filesystem::path> hugging_face_hub() {
  if (auto value = variable("HF_HUB_CACHE")) return *value;
  if (auto value = variable("HF_HOME")) return std::filesystem::path(*value) / "hub";
  if (auto value = variable("XDG_CACHE_HOME"))
    return std::filesystem::path(*value) / "huggingface/hub";
  if (auto value = home()) return *value / ".cache/huggingface/hub";
  return std::nullopt;
}

std::optional<std::filesystem::path> history_file() {
  if (auto value = variable("XDG_STATE_HOME"))
    return std::filesystem::path(*value) / "moxie/history";
  if (auto value = home()) return *value / ".local/state/moxie/history";
  return std::nullopt;
}

bool no_color() { return variable("NO_COLOR").has_value(); }

bool dumb_terminal() {
  const auto value = variable("TERM");
  return !value || *value == "dumb";
}

std::optional<std::string> editor() {
  if (auto value = variable("VISUAL")) return value;
  return variable("EDITOR");
}

std::filesystem::path temporary_folder() { return variable("TMPDIR").value_or("/tmp"); }

std::optional<std::filesystem::path> o200k_ranks() {
  if (auto value = variable("MOXIE_O200K")) return *value;
  return std::nullopt;
}

}  // namespace moxie::env
