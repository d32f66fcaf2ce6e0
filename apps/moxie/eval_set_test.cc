#include "eval_set.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "model/test_checkpoint.h"
#include "moxie/error.h"

namespace moxie::cli {
namespace {

// A line with `more` behind the first members.
std::string item(const std::string& id, const std::string& more) {
  return R"({"id": ")" + id + R"(", "ability": "addition", )" + more + "}\n";
}
const std::string kAsked = R"("messages": [{"role": "user", "content": "2 + 3"}], )";
const std::string kFive = R"("expect": {"final": " 5\n"})";

std::string refusal(const std::string& text) {
  try {
    parse_eval_set(text, "set.jsonl");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "taken: " + text;
}

TEST(EvalSet, AnItemSaysLittle) {
  const std::vector<EvalItem> items =
      parse_eval_set("\n" + item("a", kAsked + kFive) + " \r\n" + item("b", kAsked + kFive), "s");
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].where, "s line 2");
  EXPECT_EQ(items[1].where, "s line 4");
  EXPECT_EQ(items[1].id, "b");
  EXPECT_EQ(items[0].ability, "addition");
  EXPECT_EQ(items[0].expect.kind, Expectation::Kind::kFinal);
  EXPECT_EQ(items[0].expect.text, "5");  // white space around it does not count
  ASSERT_EQ(items[0].messages.size(), 1u);
  EXPECT_EQ(items[0].messages[0].content, "2 + 3");
  EXPECT_TRUE(items[0].reference.empty());
  // As in `moxie chat`, but for the date: a set means the same tomorrow.
  EXPECT_EQ(items[0].settings.system.identity, SystemContent{}.identity);
  EXPECT_EQ(items[0].settings.system.effort, ReasoningEffort::kMedium);
  EXPECT_EQ(items[0].settings.system.current_date, "");
}

TEST(EvalSet, AnItemSaysAll) {
  const std::vector<EvalItem> items = parse_eval_set(
      item("a",
           R"("format": "moxie-conversation-1", "identity": "You are moxie.", )"
           R"("knowledge_cutoff": "", "date": "2026-01-02", "effort": "none", )"
           R"("developer": "Be brief.", "tools": [{"name": "get_weather"}], )" +
               kAsked +
               R"("expect": {"call": {"name": "functions.get_weather", "arguments": {"a": 1}}}, )"
               R"("reference": [{"role": "assistant", "channel": "analysis", "content": "x"}, )"
               R"({"role": "assistant", "channel": "commentary", "content": "{}", )"
               R"("recipient": "functions.get_weather"}])") +
          item("b", R"("system": "Another name.", )" + kAsked +
                        R"("expect": {"final_pattern": "[0-9]+"})"),
      "s");
  ASSERT_EQ(items.size(), 2u);
  const Settings& settings = items[0].settings;
  EXPECT_EQ(settings.system.identity, "You are moxie.");
  EXPECT_EQ(settings.system.knowledge_cutoff, "");
  EXPECT_EQ(settings.system.current_date, "2026-01-02");
  EXPECT_FALSE(settings.system.effort.has_value());
  EXPECT_EQ(settings.developer, "Be brief.");
  ASSERT_EQ(settings.tools.size(), 1u);
  EXPECT_EQ(items[0].expect.kind, Expectation::Kind::kCall);
  EXPECT_EQ(items[0].expect.text, "get_weather");
  EXPECT_EQ(items[0].expect.arguments, R"({"a":1})");
  ASSERT_EQ(items[0].reference.size(), 2u);
  EXPECT_EQ(items[0].reference[1].recipient, "functions.get_weather");
  EXPECT_EQ(items[1].settings.system.identity, "Another name.");
  EXPECT_TRUE(items[1].settings.tools.empty());
  EXPECT_EQ(items[1].expect.kind, Expectation::Kind::kPattern);
  EXPECT_EQ(items[1].expect.text, "[0-9]+");
}

TEST(EvalSet, WhatIsWrongIsSaidWithItsLine) {
  struct Case {
    std::string text, sentence;
  };
  const std::string head = R"("id": "a", "ability": "x", )";
  for (const Case& c : {
           Case{"", "set.jsonl: expected one item a line; found nothing in it"},
           {"\n \n", "found nothing in it"},
           {item("a", kAsked + kFive) + "{\"id\": ", "set.jsonl line 2: not valid JSON at byte"},
           {"[1]\n", "line 1: expected an object"},
           {"{" + kAsked + kFive + "}", "line 1: expected \"id\", a text; found none"},
           {"{\"id\": \"\"}", "expected \"id\" to be a text; found an empty one"},
           {"{\"id\": 7}", "\"id\" must be a string, found 7"},
           {"{\"id\": \"a\", " + kAsked + kFive + "}", "expected \"ability\", a text; found none"},
           {item("a", kAsked + kFive) + item("b", kAsked + kFive) + item("a", kAsked + kFive),
            "line 3: expected an id that no other line has; found \"a\", the id of line 1"},
           {item("a", kAsked + R"("expects": {"final": "5"})"), "found \"expects\""},
           {item("a", kFive), "expected \"messages\" with at least one message; found none"},
           {item("a", R"("messages": [], )" + kFive), "at least one message; found none"},
           {item("a", R"("messages": [{"role": "person", "content": "x"}], )" + kFive),
            "message 1: role must be"},
           {item("a", R"("messages": [{"role": "assistant", "content": "x"}], )" + kFive),
            "found one of the assistant at their end"},
           {item("a", R"("messages": [{"role": "tool", "content": "x"}], )" + kFive),
            "message 1: expected the tool's name"},
           {item("a", R"("format": "other", )" + kAsked + kFive), "found \"other\""},
           {item("a", R"("effort": "huge", )" + kAsked + kFive), "effort must be low"},
           {item("a", R"("system": "x", "identity": "y", )" + kAsked + kFive), "two names"},
           {item("a", R"("tools": [{"name": "a b"}], )" + kAsked + kFive), "set.jsonl line 1"},
           {"{" + head + kAsked.substr(0, kAsked.size() - 2) + "}",
            "expected \"expect\", what the answer should be; found none"},
           {item("a", kAsked + R"("expect": "5")"), "expect"},
           {item("a", kAsked + R"("expect": {})"), "found 0 of them"},
           {item("a", kAsked + R"("expect": {"final": "5", "final_pattern": "5"})"),
            "expected one of final, final_pattern and call; found 2 of them"},
           {item("a", kAsked + R"("expect": {"finale": "5"})"), "found \"finale\""},
           {item("a", kAsked + R"("expect": {"final_pattern": "(5"})"),
            "expected a regular expression (ECMAScript) as final_pattern; found \"(5\""},
           {item("a", kAsked + R"("expect": {"call": {"arguments": {}}})"), "expected \"name\""},
           {item("a", kAsked + R"("expect": {"call": {"name": "f"}})"),
            "expected \"arguments\", an object ({} when there are none); found none"},
           {item("a", kAsked + R"("expect": {"call": {"name": "f", "arguments": "{}"}})"),
            "found something else"},
           {item("a", kAsked + kFive + R"(, "reference": [{"role": "user", "content": "x"}])"),
            "reference: message 1: expected a message of the assistant; found one of role user"},
           {item("a", kAsked + kFive +
                          R"(, "reference": [{"role": "assistant", "recipient": "functions.f"}, )"
                          R"({"role": "assistant", "channel": "final"}])"),
            "expected a call to be the last message"},
       }) {
    EXPECT_NE(refusal(c.text).find(c.sentence), std::string::npos) << refusal(c.text);
    EXPECT_EQ(refusal(c.text).find("set.jsonl"), 0u) << refusal(c.text);
  }
}

TEST(EvalSet, AFolderMeansItsSetsByName) {
  const test::TemporaryFolder folder;
  const std::string path = folder.path().string();
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder.path() / name) << text;
  };
  EXPECT_THROW(read_eval_sets({path}, 0), Error);
  write("b.jsonl", item("1", kAsked + kFive) + item("2", kAsked + kFive));
  write("a.jsonl", item("1", kAsked + kFive) + item("2", kAsked + kFive));
  write("notes.txt", "no set");
  std::vector<std::string> found;
  for (const EvalItem& read : read_eval_sets({path}, 0)) found.push_back(read.set + " " + read.id);
  EXPECT_EQ(found, (std::vector<std::string>{path + "/a.jsonl 1", path + "/a.jsonl 2",
                                             path + "/b.jsonl 1", path + "/b.jsonl 2"}));
  EXPECT_EQ(read_eval_sets({path}, 1).size(), 2u);  // of each set
  EXPECT_THROW(read_eval_sets({path, path + "/a.jsonl"}, 0), Error);
  EXPECT_THROW(read_eval_sets({path + "/none.jsonl"}, 0), Error);
  // What --limit leaves out is validated all the same.
  write("c.jsonl", item("1", kAsked + kFive) + "{}\n");
  EXPECT_THROW(read_eval_sets({path}, 1), Error);
}

}  // namespace
}  // namespace moxie::cli
