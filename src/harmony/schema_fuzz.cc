// Tools as JSON from strangers: refused with an Error or rendered in bounded size as valid UTF-8.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "moxie/chat.h"
#include "moxie/error.h"
#include "moxie/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  moxie::DeveloperContent content;
  try {
    content.namespaces = {{"functions", "", moxie::parse_function_tools(json, "fuzz")}};
  } catch (const moxie::Error&) {
    return 0;
  }
  // What was accepted renders.
  const std::string text = moxie::developer_text(content);
  moxie::Utf8Stream stream;
  const std::string again = stream.push(text) + stream.finish();
  // Each value makes at most one line or two, indented by four for each level of at most 64.
  if (again != text || text.size() > 4096 + 600 * size) {
    std::fprintf(stderr, "schema_fuzz: %zu bytes of text from %zu of JSON\n", text.size(), size);
    std::abort();
  }
  return 0;
}
