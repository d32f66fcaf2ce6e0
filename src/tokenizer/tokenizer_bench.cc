// Speed of loading and encoding: tokenizer_bench TOKENIZER [FILE [RUNS]]
//
// Prints how long loading takes; with a file also MB/s over it (median of RUNS, default 5) and the
// time of texts on which a careless tokenizer is quadratic.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "moxie/error.h"
#include "moxie/tokenizer.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string repeated(std::string_view unit, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

void report_text(const moxie::Tokenizer& tokenizer, const char* name, const std::string& text,
                 int runs) {
  std::vector<double> times;
  std::vector<moxie::TokenId> ids;
  for (int run = 0; run < runs; ++run) {
    ids.clear();
    const auto start = Clock::now();
    tokenizer.append_encoded(text, moxie::SpecialText::kOrdinary, ids);
    times.push_back(seconds_since(start));
  }
  std::ranges::sort(times);
  const double median = times[times.size() / 2];
  std::printf("%-28s %10zu bytes %9zu tokens %9.2f ms %8.1f MB/s\n", name, text.size(), ids.size(),
              median * 1e3, static_cast<double>(text.size()) / 1e6 / median);
}

int measure(int argc, char** argv) {
  const auto start = Clock::now();
  const moxie::Tokenizer tokenizer = moxie::Tokenizer::from_file(argv[1]);
  std::printf("%-28s %44.2f ms\n", "load", seconds_since(start) * 1e3);
  if (argc == 2) return 0;
  std::ifstream file(argv[2], std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot open %s\n", argv[2]);
    return 1;
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  report_text(tokenizer, "file", text, argc > 3 ? std::atoi(argv[3]) : 5);
  constexpr size_t kMegabyte = 1'000'000;
  report_text(tokenizer, "1 MB of one letter", repeated("a", kMegabyte), 3);
  report_text(tokenizer, "1 MB of one capital", repeated("Q", kMegabyte), 3);
  report_text(tokenizer, "1 MB of blanks", repeated(" ", kMegabyte), 3);
  report_text(tokenizer, "1 MB of line ends", repeated("\r\n", kMegabyte), 3);
  report_text(tokenizer, "1 MB of blanks and letters", repeated("                a", kMegabyte), 3);
  report_text(tokenizer, "1 MB of symbols", repeated("!?/", kMegabyte), 3);
  report_text(tokenizer, "1 MB of digits", repeated("7", kMegabyte), 3);
  report_text(tokenizer, "1 MB of marks", repeated("\xcc\x81", kMegabyte), 3);
  report_text(tokenizer, "1 MB of marks and capitals", repeated("\xcc\x81QQQQQQQQ", kMegabyte), 3);
  report_text(tokenizer, "1 MB of invalid bytes", repeated("\xff", kMegabyte), 3);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER [FILE [RUNS]]\n");
    return 2;
  }
  try {
    return measure(argc, argv);
  } catch (const moxie::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
