#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <limits>

#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

// What parsing this header over `data_bytes` bytes says.
std::string refused(std::string_view header, size_t data_bytes) {
  const std::vector<uint8_t> data(data_bytes);
  return refusal([&] { parse_safetensors_header(header, data, "f.safetensors", nullptr); });
}

std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return R"({"x":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}}";
}

class SafetensorsTest : public FolderTest {
 protected:
  std::string refused_file(std::string_view bytes) const {
    const auto path = write("f.safetensors", bytes);
    const std::string sentence = refusal([&] { SafetensorsFile file(path); });
    EXPECT_SAYS(sentence, path.string());
    return sentence;
  }
};

TEST_F(SafetensorsTest, ShowsTensorsOfAFileAsViewsIntoItsMapping) {
  std::string bytes = safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},)"
      R"("a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},)"
      R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[7,11]}}   )",
      11);
  for (size_t i = 0; i < 11; ++i) bytes[bytes.size() - 11 + i] = static_cast<char>(i);
  const SafetensorsFile file(write("f.safetensors", bytes));
  ASSERT_EQ(file.tensors().size(), 3u);
  const TensorView& a = file.tensors().at("a");
  EXPECT_EQ(a.dtype, DType::kBF16);
  EXPECT_EQ(a.shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(a.num_elements(), 2);
  EXPECT_EQ(a.file, &file.file());
  EXPECT_EQ(a.bytes[3], 3);
  EXPECT_EQ(file.tensors().at("b").bytes[0], 4);
  EXPECT_EQ(file.tensors().at("b").bytes.data() - a.bytes.data(), 4);
  EXPECT_EQ(file.tensors().at("scalar").num_elements(), 1);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(SafetensorsTest, AHeaderWithoutTensorsIsAnEmptyFile) {
  EXPECT_TRUE(
      SafetensorsFile(write("f.safetensors", safetensors_bytes("{}", 0))).tensors().empty());
}

TEST(SafetensorsHeader, EveryDtypeIsReadByItsName) {
  for (int i = 0; i < static_cast<int>(DType::kOther); ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::vector<uint8_t> data(3 * size_bytes(dtype));
    const auto tensors = parse_safetensors_header(
        one_tensor(name(dtype), "[3]", "[0," + std::to_string(data.size()) + "]"), data, "f",
        nullptr);
    EXPECT_EQ(tensors.at("x").dtype, dtype);
  }
}

// ---- row 1: files that are too short or too long ------------------------------------------------

TEST_F(SafetensorsTest, HostileRow01ShorterThanTheLengthField) {
  for (size_t size = 0; size < 8; ++size) {
    const std::string sentence = refused_file(std::string(size, '\0'));
    EXPECT_SAYS(sentence, std::to_string(size) + " bytes, expected at least the 8");
  }
}

TEST_F(SafetensorsTest, HostileRow01CutAtEveryByte) {
  const std::string whole = safetensors_bytes(one_tensor("U8", "[40]", "[0,40]"), 40);
  EXPECT_NO_THROW(SafetensorsFile(write("f.safetensors", whole)));
  const size_t header_end = whole.size() - 40;
  for (size_t size = 8; size < whole.size(); ++size) {
    const std::string sentence = refused_file(whole.substr(0, size));
    if (size < header_end) {
      EXPECT_SAYS(sentence, "the file ends at byte " + std::to_string(size));
    } else {
      EXPECT_SAYS(sentence, "tensor \"x\"");
      EXPECT_SAYS(sentence, "the data, which is " + std::to_string(size - header_end) + " bytes");
    }
  }
}

TEST_F(SafetensorsTest, HostileRow01GrownBehindTheLastTensor) {
  const std::string sentence = refused_file(safetensors_bytes(one_tensor("U8", "[4]", "[0,4]"), 5));
  EXPECT_SAYS(sentence, "end at byte 4");
  EXPECT_SAYS(sentence, "holds 5 bytes");
}

// Sizes are those at opening: a file that grows afterwards shows what it showed.
TEST_F(SafetensorsTest, HostileRow01GrownAfterOpeningShowsTheOldBytes) {
  const auto path = write("f.safetensors", safetensors_bytes(one_tensor("U8", "[4]", "[0,4]"), 4));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 100000);
  EXPECT_EQ(file.tensors().at("x").bytes.size(), 4u);
  EXPECT_EQ(file.tensors().at("x").bytes[3], 0);
}

// ---- row 2: header lengths ----------------------------------------------------------------------

TEST_F(SafetensorsTest, HostileRow02HeaderLengthsThatCannotBe) {
  const uint64_t lengths[] = {0,          100'000'001,        1ull << 32,
                              1ull << 63, (1ull << 63) - 1,   std::numeric_limits<uint64_t>::max(),
                              ~0ull - 7,  uint64_t{1'000'000}};
  for (const uint64_t length : lengths) {
    std::string bytes(100, '{');
    for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i));
    const std::string sentence = refused_file(bytes);
    EXPECT_SAYS(sentence, std::to_string(length));
    EXPECT_SAYS(sentence, "expected");
  }
}

// ---- row 3: shapes ------------------------------------------------------------------------------

TEST(SafetensorsHeader, HostileRow03ShapeProductPast64Bits) {
  // 2^32 * 2^32 wraps to 0, 2^33 * 2^31 * 2^62 too; 2^62 * 4 bytes passes 2^63 by dtype alone.
  for (const char* shape :
       {"[4294967296,4294967296]", "[8589934592,2147483648,4611686018427387904]",
        "[4611686018427387904]", "[9223372036854775807,9223372036854775807]"}) {
    const std::string sentence = refused(one_tensor("F32", shape, "[0,0]"), 0);
    EXPECT_SAYS(sentence, "tensor \"x\"");
    EXPECT_SAYS(sentence, "more than 2^63 bytes");
  }
}

TEST(SafetensorsHeader, HostileRow03ZeroNegativeAndFractionalDimensions) {
  for (const char* shape :
       {"[0]", "[2,0]", "[-1]", "[1.5]", "[\"2\"]", "[null]", "[18446744073709551615]"}) {
    const std::string sentence = refused(one_tensor("U8", shape, "[0,0]"), 0);
    EXPECT_SAYS(sentence, "expected integers from 1");
  }
  EXPECT_SAYS(refused(one_tensor("U8", "7", "[0,7]"), 7), "expected a JSON array");
}

TEST(SafetensorsHeader, HostileRow03AThousandDimensions) {
  std::string shape = "[1";
  for (int i = 1; i < 1000; ++i) shape += ",1";
  EXPECT_SAYS(refused(one_tensor("U8", shape + "]", "[0,1]"), 1), "1000 dimensions, expected");
}

// ---- row 4: offsets -----------------------------------------------------------------------------

TEST(SafetensorsHeader, HostileRow04OffsetsReversedOutsideOrNegative) {
  EXPECT_SAYS(refused(one_tensor("U8", "[4]", "[4,0]"), 8), "end before they begin");
  EXPECT_SAYS(refused(one_tensor("U8", "[4]", "[0,4]"), 3),
              "reach past the data, which is 3 bytes");
  EXPECT_SAYS(refused(one_tensor("U8", "[4]", "[9223372036854775803,9223372036854775807]"), 8),
              "reach past the data");
  for (const char* offsets : {"[-4,0]", "[-1,3]", "[0,18446744073709551615]", "[0,4.0]",
                              "[0,\"4\"]", "[0,1e30]", "[null,4]"})
    EXPECT_SAYS(refused(one_tensor("U8", "[4]", offsets), 4), "must be integers from 0 on");
  for (const char* offsets : {"[]", "[0]", "[0,2,4]"})
    EXPECT_SAYS(refused(one_tensor("U8", "[4]", offsets), 4), "must be [begin, end]");
  EXPECT_SAYS(refused(one_tensor("U8", "[4]", "{}"), 4), "expected a JSON array");
}

TEST(SafetensorsHeader, HostileRow04OffsetsDoNotMatchShapeAndDtype) {
  const std::string sentence = refused(one_tensor("BF16", "[2,3]", "[0,10]"), 10);
  EXPECT_SAYS(sentence, "BF16 [2, 3] takes 12 bytes");
  EXPECT_SAYS(sentence, "hold 10");
}

std::string two_tensors(std::string_view first, std::string_view second) {
  return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(first) +
         R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(second) + "}}";
}

TEST(SafetensorsHeader, HostileRow04OffsetsOverlap) {
  const std::string sentence = refused(two_tensors("[0,4]", "[3,7]"), 7);
  EXPECT_SAYS(sentence, "tensor \"b\" begins at byte 3");
  EXPECT_SAYS(sentence, "overlaps tensor \"a\"");
  EXPECT_SAYS(refused(two_tensors("[0,4]", "[0,4]"), 4), "overlaps");
}

TEST(SafetensorsHeader, HostileRow04HolesBeforeBetweenAndBehind) {
  EXPECT_SAYS(refused(two_tensors("[0,4]", "[5,9]"), 9), "bytes 4 to 5");
  EXPECT_SAYS(refused(two_tensors("[1,5]", "[5,9]"), 9), "bytes 0 to 1");
  EXPECT_SAYS(refused(two_tensors("[0,4]", "[4,8]"), 9), "nothing behind the last tensor");
  EXPECT_SAYS(refused("{}", 1), "nothing behind the last tensor");
  EXPECT_EQ(refused(two_tensors("[4,8]", "[0,4]"), 8), "accepted");  // any order will do
}

// ---- row 5: names (two shards: tensor_folder_test.cc) -------------------------------------------

TEST(SafetensorsHeader, HostileRow05TheSameNameTwice) {
  const std::string tensor = R"("x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string sentence = refused("{" + tensor + "," + tensor + "}", 4);
  EXPECT_SAYS(sentence, "duplicate key \"x\"");
  // The same name in other letters.
  EXPECT_SAYS(refused("{" + tensor + R"(,"\u0078":{}})", 4), "duplicate");
}

// ---- row 6: dtypes nobody knows (which dtype each of the model's tensors has: src/model)
// ------------------------------

TEST(SafetensorsHeader, HostileRow06UnknownOrMissingDtype) {
  EXPECT_SAYS(refused(one_tensor("F4", "[4]", "[0,2]"), 2), "dtype \"F4\"");
  EXPECT_SAYS(refused(one_tensor("bf16", "[1]", "[0,2]"), 2), "dtype \"bf16\"");
  EXPECT_SAYS(refused(one_tensor("unknown dtype", "[1]", "[0,0]"), 0), "none that moxie reads");
  EXPECT_SAYS(refused(R"({"x":{"shape":[],"data_offsets":[0,1]}})", 1), "\"dtype\" is missing");
  EXPECT_SAYS(refused(R"({"x":{"dtype":"U8","data_offsets":[0,1]}})", 1), "\"shape\" is missing");
  EXPECT_SAYS(refused(R"({"x":{"dtype":"U8","shape":[]}})", 1), "\"data_offsets\" is missing");
  EXPECT_SAYS(refused(R"({"x":{"dtype":8,"shape":[],"data_offsets":[0,1]}})", 1), "a string");
}

// ---- row 8: JSON --------------------------------------------------------------------------------

TEST(SafetensorsHeader, HostileRow08Nested200000Deep) {
  EXPECT_SAYS(refused("{\"x\":" + std::string(200000, '['), 0), "not valid JSON");
  EXPECT_SAYS(refused("{\"x\":{\"shape\":[[[[1]]]]}}", 0), "not valid JSON");
}

TEST(SafetensorsHeader, HostileRow08BadUtf8TrailingBytesAndNoJson) {
  EXPECT_SAYS(refused("{\"\xff\":{}}", 0), "not valid JSON");
  EXPECT_SAYS(refused("{\"\xc0\xaf\":{}}", 0), "not valid JSON");
  EXPECT_SAYS(refused("{\"\\ud800\":{}}", 0), "not valid JSON");
  EXPECT_SAYS(refused("{}x", 0), "not valid JSON");
  EXPECT_SAYS(refused(std::string_view("{}\0", 3), 0), "not valid JSON");
  EXPECT_SAYS(refused("{", 0), "not valid JSON");
  EXPECT_SAYS(refused("", 0), "does not begin with '{'");
  EXPECT_SAYS(refused(" {}", 0), "does not begin with '{'");
  EXPECT_SAYS(refused("\xef\xbb\xbf{}", 0), "does not begin with '{'");
  EXPECT_SAYS(refused("[]", 0), "does not begin with '{'");
  EXPECT_EQ(refused("{}   ", 0), "accepted");
}

TEST(SafetensorsHeader, HostileRow08NumbersBeyondAnyRange) {
  EXPECT_SAYS(refused(one_tensor("U8", "[1e999]", "[0,1]"), 1), "not valid JSON");
  EXPECT_SAYS(refused(one_tensor("U8", "[NaN]", "[0,1]"), 1), "not valid JSON");
  EXPECT_SAYS(refused(one_tensor("U8", "[1]", "[0,1e999]"), 1), "not valid JSON");
}

TEST(SafetensorsHeader, HostileRow08AMillionTensorsAreRefusedHalfWay) {
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i) {
    header += (i == 0 ? "\"t" : ",\"t") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[1,1],"data_offsets":[)" + std::to_string(i) + "," +
              std::to_string(i + 1) + "]}";
  }
  header += "}";
  const std::vector<uint8_t> data(1'000'000);
  const std::string sentence =
      refusal([&] { parse_safetensors_header(header, data, "f", nullptr); });
  EXPECT_SAYS(sentence, "more than");
  // Small values in great number: also refused.
  std::string small = "{\"x\":[";
  for (int i = 0; i < 5'000'000; ++i) small += "0,";
  EXPECT_SAYS(refused(small + "0]}", 0), "more than");
}

TEST(SafetensorsHeader, HostileRow08ValuesOfTheWrongKind) {
  for (const char* value : {"1", "null", "[]", "\"x\"", "true"})
    EXPECT_SAYS(refused("{\"x\":" + std::string(value) + "}", 0), "expected a JSON object");
  EXPECT_SAYS(refused(R"({"__metadata__":[]})", 0), "expected a JSON object");
  EXPECT_SAYS(refused(R"({"__metadata__":{"format":1}})", 0), "must be a string");
}

TEST(SafetensorsHeader, NamesInErrorsAreQuotedAndCut) {
  const std::string sentence =
      refused(R"({"a\u001b[31m)" + std::string(5000, 'n') + R"(":{"dtype":"U8"}})", 0);
  EXPECT_EQ(sentence.find('\x1b'), std::string::npos);
  EXPECT_LT(sentence.size(), 400u);
}

// ---- row 11: what is no file --------------------------------------------------------------------

TEST_F(SafetensorsTest, HostileRow11FifoFolderMissingAndUnreadable) {
  const auto path = folder_ / "f.safetensors";
  EXPECT_SAYS(refusal([&] { SafetensorsFile file(path); }), path.string());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_SAYS(refusal([&] { SafetensorsFile file(path); }), "not a regular file");
  EXPECT_SAYS(refusal([&] { SafetensorsFile file(folder_); }), "not a regular file");
  EXPECT_SAYS(refusal([&] { SafetensorsFile file("/dev/zero"); }), "not a regular file");
  if (geteuid() == 0) return;  // root reads everything
  const auto locked = write("locked", "{}");
  std::filesystem::permissions(locked, std::filesystem::perms::none);
  EXPECT_SAYS(refusal([&] { SafetensorsFile file(locked); }), "Permission denied");
}

TEST_F(SafetensorsTest, HostileRow11CutWhileMappedEndsWithASentence) {
  const auto path = write("f.safetensors",
                          safetensors_bytes(one_tensor("U8", "[1000000]", "[0,1000000]"), 1000000));
  EXPECT_EXIT(
      {
        const SafetensorsFile file(path);
        std::filesystem::resize_file(path, 4096);
        volatile uint8_t byte = file.tensors().at("x").bytes[900000];
        (void)byte;
      },
      testing::ExitedWithCode(1), "f.safetensors was cut short");
}

}  // namespace
}  // namespace moxie
