#include "byte_progress.h"

#include "base/check.h"

namespace moxie::cli {

void ByteProgress::update(uint64_t done, uint64_t total, std::string_view what) {
  if (!stderr_is_terminal()) return;
  const double elapsed = seconds(), rate = static_cast<double>(done) / std::max(elapsed, 1e-3);
  std::string detail = concat(format_bytes(done), " of ", format_bytes(total));
  if (elapsed > 0.5 && done > 0) {
    const auto left = static_cast<int64_t>(static_cast<double>(total - done) / rate + 0.5);
    detail += concat(", ", format_bytes(static_cast<uint64_t>(rate)), "/s, ",
                     left < 60 ? concat(left, " s") : concat(left / 60, " min ", left % 60, " s"),
                     " left");
  }
  bar_.update(done, total, concat(detail, what.empty() ? "" : ", ", what));
}

}  // namespace moxie::cli
