#include "demo_model.h"

#include <system_error>

#ifndef MOXIE_DATA_FROM_BIN
#error "the build says how to get from the folder of installed programs to that of moxie's data"
#endif

namespace moxie::cli {

namespace fs = std::filesystem;

DemoModel find_demo_model() {
  DemoModel demo;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return demo;
  const fs::path folder = program.parent_path();
  // A build folder is build or build/PRESET in the checkout.
  for (const char* way :
       {MOXIE_DATA_FROM_BIN "/models/demo", "../models/demo", "../../models/demo"})
    demo.places.push_back((folder / way).lexically_normal());
  for (const fs::path& place : demo.places) {
    if (!fs::exists(place / "config.json", error)) continue;
    demo.folder = place;
    break;
  }
  return demo;
}

std::string list_places(const DemoModel& demo) {
  std::string text;
  for (size_t i = 0; i < demo.places.size(); ++i) {
    if (i > 0) text += i + 1 == demo.places.size() ? " and " : ", ";
    text += demo.places[i].string();
  }
  return text.empty() ? "no folder, since /proc/self/exe cannot be read" : text;
}

}  // namespace moxie::cli
