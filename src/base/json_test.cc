#include "base/json.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>

#include "moxie/error.h"

namespace moxie::json {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse(text, "file.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "accepted";
}

TEST(Json, RefusesWhatStrangersWriteWrong) {
  EXPECT_NE(refusal(R"({"a":1,"a":2})").find("duplicate key \"a\""), std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"b":1,"b":1}})").find("duplicate"), std::string::npos);
  EXPECT_NE(refusal("[1e999]").find("too large"), std::string::npos);
  EXPECT_NE(refusal("{} x").find("file.json"), std::string::npos);
  EXPECT_NE(refusal("{").find("byte"), std::string::npos);
  EXPECT_NE(refusal("\"\xff\""), "accepted");
  EXPECT_NE(refusal("\"\\ud800\""), "accepted");
  EXPECT_NE(refusal("\xef\xbb\xbf{}"), "accepted");
  EXPECT_NE(refusal(""), "accepted");
  EXPECT_NE(refusal("[NaN]"), "accepted");
  EXPECT_NE(refusal(std::string(200000, '[')), "accepted");
}

// Boost.JSON reads the first of these one bit too low.
TEST(Json, NumbersAreTheNearestDouble) {
  for (const char* text : {"1.0886684642304105", "0.1", "-1.5e-7", "2.2250738585072014e-308",
                           "5e-324", "1.7976931348623157e308", "123456789.12345678"}) {
    const double want = std::strtod(text, nullptr);
    EXPECT_EQ(parse("[" + std::string(text) + " ]", "x").get_array()[0].get_double(), want) << text;
    EXPECT_EQ(parse(text, "x").get_double(), want) << text;  // a number that ends with the text
  }
  EXPECT_EQ(parse("[1e-999]", "x").get_array()[0].get_double(), 0.0);
}

TEST(Json, TheSameKeyMayStandInDifferentObjects) {
  EXPECT_EQ(dump(parse(R"({"a":{"a":[1,2.5,"x",null,true]},"b":{"a":{}}})", "x")),
            R"({"a":{"a":[1,2.5E0,"x",null,true]},"b":{"a":{}}})");
}

// Writes down what it is given.
class Recorder : public Sink {
 public:
  bool wants(std::string_view path) override { return path == "m.v" || path == "list"; }
  void key(std::string_view key) override { seen += std::string(key) + ":"; }
  void string(std::string_view value) override { seen += "'" + std::string(value) + "' "; }
  void integer(int64_t value) override { seen += std::to_string(value) + " "; }
  void other(const char* kind) override { seen += std::string("<") + kind + "> "; }
  void begin(bool array) override { seen += array ? "[ " : "{ "; }
  void end() override { seen += "/ "; }
  std::string seen;
};

TEST(Json, ASinkTakesTheMembersItWantsAndTheRestIsBuilt) {
  Recorder sink;
  const Value value =
      parse(R"({"v":{"a":1},"m":{"v":{"a":1,"b":"x\u00e9y","c":[1,{"d":null}]},"w":2,"list":[3]},)"
            R"("in":[{"list":[4]}],"list":["p",["q",true,0.5]],"end":{"v":{"m":5}}})",
            "x", {}, sink);
  EXPECT_EQ(sink.seen,
            "a:1 b:'x\xc3\xa9y' c:[ 1 { d:<null> / / 'p' [ 'q' <a boolean> <a number> / ");
  EXPECT_EQ(dump(value),
            R"({"v":{"a":1},"m":{"v":{},"w":2,"list":[3]},"in":[{"list":[4]}],"list":[],)"
            R"("end":{"v":{"m":5}}})");
  EXPECT_THROW(parse(R"({"m":{"v":{"a":1}},"m":2})", "x", {}, sink), Error);
}

TEST(Json, MoreValuesThanAllowedAreRefused) {
  EXPECT_NO_THROW(parse("[1,2,3]", "x", {.max_values = 4}));
  EXPECT_THROW(parse("[1,2,3]", "x", {.max_values = 3}), Error);
  EXPECT_THROW(parse("[{},[]]", "x", {.max_values = 2}), Error);
}

TEST(Json, LongKeysAndStringsStayWhole) {
  const std::string key(100000, 'k');
  const Value value = parse("{\"" + key + "\":\"" + key + "\"}", "x");
  EXPECT_EQ(get_string(value.get_object(), key, "x"), key);
}

TEST(Json, ReadersNameKeyExpectationAndFinding) {
  const Value value =
      parse(R"({"i":7,"f":4096.0,"h":0.5,"s":"x","n":null,"big":18446744073709551615})", "x");
  const Object& object = value.get_object();
  EXPECT_EQ(get_int(object, "i", "x"), 7);
  EXPECT_EQ(get_int(object, "f", "x"), 4096);
  EXPECT_EQ(get_int(object, "n", "x"), std::nullopt);
  EXPECT_EQ(get_int(object, "absent", "x"), std::nullopt);
  EXPECT_EQ(get_double(object, "h", "x"), 0.5);
  try {
    get_int(object, "h", "config.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "config.json: \"h\" must be an integer of at most 63 bits, found 5E-1");
  }
  EXPECT_THROW(get_int(object, "s", "x"), Error);
  EXPECT_THROW(get_int(object, "big", "x"), Error);
}

TEST(Json, QuoteReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(quote("a\"\n\xff\xc3\xa9"), "\"a\\\"\\n\xef\xbf\xbd\xc3\xa9\"");
  EXPECT_EQ(quote("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace moxie::json
