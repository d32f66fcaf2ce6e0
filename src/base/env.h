// Every environment variable that moxie reads; docs/environment.md lists them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace moxie::env {

// Empty optional: not set, or set to nothing.
std::optional<std::string> cpu_isa();  // MOXIE_CPU_ISA: cap the CPU kernels' instruction set
std::optional<std::filesystem::path>
hugging_face_hub();  // HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/..., else
                     // ~/.cache/huggingface/hub
std::optional<std::filesystem::path>
history_file();                            // XDG_STATE_HOME or ~/.local/state: moxie/history
bool no_color();                           // NO_COLOR
bool dumb_terminal();                      // TERM is "dumb" or missing: no colour, no line editing
std::optional<std::string> editor();       // VISUAL, else EDITOR: the command Ctrl-G runs
std::filesystem::path temporary_folder();  // TMPDIR, else /tmp
std::optional<std::filesystem::path> o200k_ranks();  // MOXIE_O200K: rank file for the tests

}  // namespace moxie::env
