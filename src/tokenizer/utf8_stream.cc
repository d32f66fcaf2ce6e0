#include "moxie/tokenizer.h"
#include "tokenizer/utf8.h"

namespace moxie {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Moves what is certain from `pending` to the result; with `all`, everything.
std::string take(std::string& pending, bool all) {
  std::string out;
  const char* p = pending.data();
  const char* const end = p + pending.size();
  while (p < end) {
    const bpe::Utf8Char read = bpe::read_utf8(p, end);
    if (read.status == bpe::Utf8Status::kTruncated && !all) break;
    if (read.status == bpe::Utf8Status::kValid) {
      out.append(p, read.length);
    } else {
      out += kReplacement;
    }
    p += read.length;
  }
  pending.erase(0, static_cast<size_t>(p - pending.data()));
  return out;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  return take(pending_, /*all=*/false);
}

std::string Utf8Stream::finish() { return take(pending_, /*all=*/true); }

}  // namespace moxie
