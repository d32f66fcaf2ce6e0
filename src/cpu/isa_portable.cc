// Processors without kernels of their own: plain C++ runs everywhere.
#include <fstream>
#include <sstream>

#include "cpu/isa_detect.h"

namespace moxie::cpu {

Isa detect_isa() { return Isa::kScalar; }

std::string detect_model_name() { return {}; }

std::vector<std::string> detect_features() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::vector<std::string> features;
    for (std::string word; words >> word;) {
      for (const char* known : {"asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"}) {
        if (word == known) features.push_back(word);
      }
    }
    return features;
  }
  return {};
}

}  // namespace moxie::cpu
