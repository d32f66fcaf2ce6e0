// The demo model, a small gpt-oss that comes with moxie: which folder it is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moxie::cli {

// What MODEL may be in place of a folder or an id.
inline constexpr char kDemoName[] = "demo";

struct DemoModel {
  std::optional<std::filesystem::path> folder;  // the first place that has a config.json
  std::vector<std::filesystem::path> places;    // where it is looked for, in this order
};

// Looks beside the program, so that moxie can be moved as a whole: where `cmake --install` puts the
// model, then models/demo of the checkout that the program was built in.
DemoModel find_demo_model();

// "/usr/share/moxie/models/demo, /usr/models/demo and /models/demo", for messages.
std::string list_places(const DemoModel& demo);

}  // namespace moxie::cli
