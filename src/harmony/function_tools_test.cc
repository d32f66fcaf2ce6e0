#include <gtest/gtest.h>

#include "moxie/chat.h"
#include "moxie/error.h"

namespace moxie {
namespace {

std::string refusal(const std::string& text, ErrorCode code = ErrorCode::kInvalidArgument) {
  try {
    parse_function_tools(text, "tools.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

void expect_refusal(const std::string& text, const std::string& reason,
                    ErrorCode code = ErrorCode::kInvalidArgument) {
  const std::string sentence = refusal(text, code);
  EXPECT_TRUE(sentence.starts_with("tools.json")) << sentence;
  EXPECT_NE(sentence.find(reason), std::string::npos) << sentence;
  EXPECT_LT(sentence.size(), 400u);
}

TEST(ParseFunctionTools, BothForms) {
  const auto tools = parse_function_tools(
      R"([{"type":"function","function":{"name":"f","description":"D","strict":true,
           "parameters":{"type":"object","properties":{"z":{},"a":{}}}}},
          {"name":"g","description":null,"parameters":null},
          {"type":"function","name":"h","parameters":{}}])",
      "tools.json");
  ASSERT_EQ(tools.size(), 3u);
  EXPECT_EQ(tools[0].name, "f");
  EXPECT_EQ(tools[0].description, "D");
  EXPECT_EQ(tools[0].parameters, R"({"type":"object","properties":{"z":{},"a":{}}})");
  EXPECT_EQ(tools[1].name, "g");
  EXPECT_EQ(tools[1].parameters, "");
  EXPECT_EQ(tools[2].parameters, "{}");
  EXPECT_TRUE(parse_function_tools("[]", "tools.json").empty());
}

TEST(ParseFunctionTools, PropertiesKeepTheirOrderIntoThePrompt) {
  std::string properties;
  for (int i = 99; i >= 0; --i)
    properties += "\"p" + std::to_string(i) + "\":{\"type\":\"string\"}" + (i > 0 ? "," : "");
  DeveloperContent content;
  content.namespaces = {
      {"functions", "",
       parse_function_tools(
           "[{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{" + properties +
               "}}}]",
           "tools.json")}};
  const std::string text = developer_text(content);
  size_t at = 0;
  for (int i = 99; i >= 0; --i) {
    const size_t next = text.find("\np" + std::to_string(i) + "?: string,", at);
    ASSERT_NE(next, std::string::npos) << i;
    at = next;
  }
}

TEST(ParseFunctionTools, WhatIsWrongIsSaid) {
  expect_refusal("{}", "expected a JSON array, found an object");
  expect_refusal("[1]", "tools[0]: expected a JSON object, found an integer");
  expect_refusal("[{}]", "\"name\" is missing");
  expect_refusal(R"([{"type":"function","function":"f"}])", "expected a JSON object");
  expect_refusal(R"([{"name":7}])", "\"name\" must be a string");
  expect_refusal(R"([{"name":"f","parameters":[]}])", "(a JSON Schema): expected a JSON object");
  expect_refusal(R"([{"name":"f"},{"name":"f"}])", "tools[1]: the function \"f\" is defined twice");
  expect_refusal(R"([{"type":"web_search"}])", "\"type\" must be \"function\"",
                 ErrorCode::kUnsupported);
  expect_refusal("[{", "not valid JSON at byte 2");
}

// Row 25 of the hostile inputs.
TEST(ParseFunctionTools, NamesThatAHeaderCannotCarryAreRefused) {
  for (const char* name : {"", "a b", "<|end|>", "../x", "日本", "a\\nb", "x=y"})
    expect_refusal(std::string(R"([{"name":")") + name + "\"}]", "a function's name");
  expect_refusal(R"([{"name":"functions.f"}])", "leave out \"functions.\"");
  expect_refusal("[{\"name\":\"" + std::string(10240, 'a') + "\"}]", "found 10240");
}

TEST(ParseFunctionTools, SizeAndDepthAreBounded) {
  std::string many = "[";
  for (int i = 0; i < 10000; ++i)
    many += (i > 0 ? "," : "") + std::string("{\"name\":\"f") + std::to_string(i) + "\"}";
  expect_refusal(many + "]", "10000 tools, expected at most 1024");
  const std::string deep = R"([{"name":"f","parameters":{"a":)" + std::string(200000, '[') + "}}]";
  expect_refusal(deep, "not valid JSON");
  expect_refusal("[{\"name\":\"f\",\"description\":\"" + std::string(5 << 20, 'x') + "\"}]",
                 "bytes of JSON, expected at most");
}

}  // namespace
}  // namespace moxie
