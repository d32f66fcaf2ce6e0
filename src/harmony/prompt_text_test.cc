#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "harmony/typescript.h"
#include "moxie/chat.h"
#include "moxie/error.h"

namespace moxie::harmony {
namespace {

std::string type_of(const std::string& schema) {
  return typescript_type(json::parse(schema, "a test"), "");
}

TEST(SystemText, EmptyFieldsAreLeftOut) {
  SystemContent content;
  EXPECT_EQ(system_text(content, false),
            "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: "
            "2024-06\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. "
            "Channel must be included for every message.");
  content = {.identity = "", .knowledge_cutoff = "", .effort = {}, .channels = {}};
  EXPECT_EQ(system_text(content, true), "");
  content.current_date = "2025-06-28";
  content.effort = ReasoningEffort::kLow;
  EXPECT_EQ(system_text(content, false), "Current date: 2025-06-28\n\nReasoning: low");
}

TEST(SystemText, FunctionsGoToTheCommentaryChannel) {
  const SystemContent content{.identity = "", .knowledge_cutoff = "", .effort = {}};
  EXPECT_TRUE(system_text(content, true)
                  .ends_with("every message.\nCalls to these tools must go to the commentary "
                             "channel: 'functions'."));
}

TEST(DeveloperText, NamespacesAreSortedAndTheirDescriptionsAreComments) {
  DeveloperContent content;
  content.namespaces = {{"zoo", "raw\nlines", {}}, {"functions", "of mine", {{"f", "", ""}}}};
  EXPECT_EQ(developer_text(content),
            "# Tools\n\n## functions\n\n// of mine\nnamespace functions {\n\ntype f = () => "
            "any;\n\n} // namespace functions\n\n## zoo\n\nraw\nlines");
  EXPECT_EQ(developer_text({}), "");
}

TEST(DeveloperText, ResponseFormatsStandLast) {
  DeveloperContent content;
  content.instructions = "Be brief.";
  content.response_formats = {{"list", "what to buy", "{ \"type\" : \"object\", \"a\": 1.0 }"}};
  EXPECT_EQ(developer_text(content),
            "# Instructions\n\nBe brief.\n\n# Response Formats\n\n## list\n\n// what to "
            "buy\n{\"type\":\"object\",\"a\":1.0}");
}

TEST(DeveloperText, ASchemaThatIsNoJsonIsRefusedByTheNameOfItsFunction) {
  DeveloperContent content;
  content.namespaces = {{"functions", "", {{"broken", "", "{"}}}};
  try {
    developer_text(content);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("function \"broken\""), std::string::npos);
  }
}

TEST(TypeScript, SimpleTypes) {
  EXPECT_EQ(type_of(R"({"type":"integer"})"), "number");
  EXPECT_EQ(type_of(R"({"type":"boolean"})"), "boolean");
  EXPECT_EQ(type_of(R"({"type":"array"})"), "Array<any>");
  EXPECT_EQ(type_of(R"({"type":"string","enum":["a",1,"b"]})"), "\"a\" | \"b\"");
  EXPECT_EQ(type_of(R"({"type":"string","enum":[1]})"), "string");
  EXPECT_EQ(type_of(R"({"type":["integer","null"]})"), "number | null");
  EXPECT_EQ(type_of(R"({"type":[]})"), "any");
  EXPECT_EQ(type_of(R"({"anyOf":[{"type":"string"}]})"), "any");
  EXPECT_EQ(type_of("true"), "any");
}

TEST(TypeScript, NestedArraysAndObjects) {
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"x":{"type":"object","properties":
                        {"y":{"type":"array","items":{"type":"array","items":
                        {"type":"integer"}}}}}}})"),
            "{\nx?: {\n    y?: number[][],\n    },\n}");
  EXPECT_EQ(type_of(R"({"type":"object","properties":{}})"), "{\n}");
}

TEST(TypeScript, ADescribedObjectIsDescribedTwice) {
  EXPECT_EQ(type_of(R"({"type":"object","required":["x"],"properties":{"x":{"type":"object",
                        "description":"D"}}})"),
            "{\n// D\nx:     // D\n{\n    },\n}");
}

TEST(TypeScript, DefaultsOfStringsAreQuotedUnlessTheyAreEnums) {
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"a":{"type":"string","default":"d"},
                        "b":{"type":"string","enum":["d"],"default":"d"},
                        "c":{"default":[1,{"k":null}]}}})"),
            "{\na?: string, // default: \"d\"\nb?: \"d\", // default: d\nc?: any, // default: "
            "[1,{\"k\":null}]\n}");
}

TEST(TypeScript, NullableIsNotSaidTwice) {
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"a":{"type":"string","nullable":true},
                        "b":{"type":["string","null"],"nullable":true}}})"),
            "{\na?: string | null,\nb?: string | null,\n}");
}

TEST(TypeScript, OneOfAsAProperty) {
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"a":{"description":"D","default":20,"oneOf":
                        [{"type":"string","default":"s","description":"first"},
                         {"type":"number","description":"second"},
                         {"type":"boolean","description":"D"}]}}})"),
            "{\n// D\n// default: 20\na?:\n | string // default: \"s\"\n | number // second\n | "
            "boolean\n,\n}");
  // A property's description that its first variant repeats is not printed above; nor below.
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"a":{"description":"D","oneOf":
                        [{"type":"string","description":"D"}]}}})"),
            "{\na?:\n | string\n,\n}");
}

TEST(TypeScript, OneOfElsewhereKeepsTheQuotesOfAnEnumsDefault) {
  EXPECT_EQ(type_of(R"({"oneOf":[{"type":"string","enum":["d"],"default":"d","nullable":true},
                        {"type":"number","description":"N","default":1.5}]})"),
            "\n | \"d\" | null // default: \"d\"\n | number // N default: 1.5");
}

TEST(TypeScript, TitlesAndExamples) {
  EXPECT_EQ(type_of(R"({"type":"object","properties":{"a":{"type":"string","title":"T",
                        "description":"D","examples":["x",1]}}})"),
            "{\n// T\n//\n// D\n// Examples:\n// - \"x\"\na?: string,\n}");
}

TEST(CompactJson, NumbersAreTheShortestThatReadBack) {
  const auto text = [](const char* number) { return compact_json(json::parse(number, "a test")); };
  EXPECT_EQ(text("1.0"), "1.0");
  EXPECT_EQ(text("-0.5"), "-0.5");
  EXPECT_EQ(text("1e15"), "1000000000000000.0");
  EXPECT_EQ(text("1e16"), "1e16");
  EXPECT_EQ(text("12345678901234567890123"), "1.2345678901234568e22");
  EXPECT_EQ(text("0.001"), "0.001");
  EXPECT_EQ(text("0.00001"), "0.00001");
  EXPECT_EQ(text("0.0000012"), "1.2e-6");
  EXPECT_EQ(text("1.5e300"), "1.5e300");
  EXPECT_EQ(text("0.0"), "0.0");
  EXPECT_EQ(text("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(text(" [ { } , [ ] , \"\\u00e9\\n\" ] "), "[{},[],\"\xc3\xa9\\n\"]");
}

}  // namespace
}  // namespace moxie::harmony
