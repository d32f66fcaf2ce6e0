// The texts of the system and the developer message.
#include <algorithm>
#include <boost/json.hpp>

#include "base/json.h"
#include "harmony/builtin_tools.h"
#include "harmony/typescript.h"
#include "moxie/chat.h"

namespace moxie {
namespace {

constexpr json::ParseLimits kSchemaLimits = {
    .max_depth = 64, .max_bytes = size_t{4} << 20, .max_values = size_t{1} << 18};

std::string join(const std::vector<std::string>& pieces, std::string_view between) {
  std::string out;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) out += between;
    out += pieces[i];
  }
  return out;
}

// Lines end with \n or \r\n; what follows the last end is a line only if it is not empty.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (end != std::string_view::npos && line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

std::string function_text(const FunctionTool& tool) {
  std::string out;
  for (const std::string& line : lines_of(tool.description)) out.append("// ").append(line) += '\n';
  out.append("type ").append(tool.name).append(" = (");
  if (!tool.parameters.empty()) {
    const std::string source = "the parameters of the function \"" + tool.name + "\"";
    out.append("_: ").append(
        harmony::typescript_type(json::parse(tool.parameters, source, kSchemaLimits), ""));
  }
  return out.append(") => any;\n");
}

std::string namespace_text(const ToolNamespace& space) {
  std::vector<std::string> pieces = {"## " + space.name + "\n"};
  for (const std::string& line : lines_of(space.description))
    pieces.push_back(space.tools.empty() ? line : "// " + line);
  if (!space.tools.empty()) {
    pieces.push_back("namespace " + space.name + " {\n");
    for (const FunctionTool& tool : space.tools) pieces.push_back(function_text(tool));
    pieces.push_back("} // namespace " + space.name);
  }
  return join(pieces, "\n");
}

std::string response_format_text(const ResponseFormat& format) {
  std::string out = "## " + format.name + "\n\n";
  for (const std::string& line : lines_of(format.description))
    out.append("// ").append(line) += '\n';
  const std::string source = "the schema of the response format \"" + format.name + "\"";
  return out.append(harmony::compact_json(json::parse(format.schema, source, kSchemaLimits)));
}

}  // namespace

std::string system_text(const SystemContent& content, bool has_functions) {
  std::vector<std::string> sections, top;
  if (!content.identity.empty()) top.push_back(content.identity);
  if (!content.knowledge_cutoff.empty())
    top.push_back("Knowledge cutoff: " + content.knowledge_cutoff);
  if (!content.current_date.empty()) top.push_back("Current date: " + content.current_date);
  if (!top.empty()) sections.push_back(join(top, "\n"));
  if (content.effort) sections.push_back(std::string("Reasoning: ") + name(*content.effort));
  if (content.browser || content.python) {
    sections.emplace_back("# Tools");
    if (content.browser) sections.emplace_back(harmony::kBrowserSection);
    if (content.python) sections.emplace_back(harmony::kPythonSection);
  }
  if (!content.channels.empty()) {
    std::string text = "# Valid channels: " + join(content.channels, ", ") +
                       ". Channel must be included for every message.";
    if (has_functions)
      text += "\nCalls to these tools must go to the commentary channel: 'functions'.";
    sections.push_back(std::move(text));
  }
  return join(sections, "\n\n");
}

std::string developer_text(const DeveloperContent& content) {
  std::vector<std::string> sections;
  if (!content.instructions.empty()) {
    sections.emplace_back("# Instructions");
    sections.push_back(content.instructions);
  }
  if (!content.namespaces.empty()) {
    sections.emplace_back("# Tools");
    std::vector<const ToolNamespace*> sorted;
    for (const ToolNamespace& space : content.namespaces) sorted.push_back(&space);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto* a, const auto* b) { return a->name < b->name; });
    for (const ToolNamespace* space : sorted) sections.push_back(namespace_text(*space));
  }
  if (!content.response_formats.empty()) {
    sections.emplace_back("# Response Formats");
    for (const ResponseFormat& format : content.response_formats)
      sections.push_back(response_format_text(format));
  }
  return join(sections, "\n\n");
}

}  // namespace moxie
