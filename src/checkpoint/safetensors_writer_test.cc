#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "checkpoint/safetensors.h"
#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

using Entries = std::vector<SafetensorsWriter::Entry>;

class SafetensorsWriterTest : public FolderTest {
 protected:
  std::filesystem::path path() const { return folder_ / "out.safetensors"; }
  bool part_exists() const { return std::filesystem::exists(folder_ / "out.safetensors.part"); }
};

std::vector<uint8_t> counted(size_t size, unsigned first) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(first + i * 31);
  return bytes;
}

TEST_F(SafetensorsWriterTest, WhatIsWrittenInPiecesOfAnySizeReadsBack) {
  // Around the megabyte that is gathered before a write.
  for (const size_t piece : {size_t{1} << 22, (size_t{1} << 20) + 1, size_t{1} << 20,
                             (size_t{1} << 20) - 1, size_t{4097}}) {
    const std::vector<uint8_t> a = counted(3'000'000, 1), b = counted(5, 7);
    SafetensorsWriter writer(path(), {{"a", DType::kBF16, {500, 3000}}, {"b\n\"", DType::kU8, {5}}},
                             {{"format", "pt"}});
    for (size_t at = 0; at < a.size(); at += piece)
      writer.write(std::span(a).subspan(at, std::min(piece, a.size() - at)));
    writer.write(b);
    const uint64_t total = writer.total_bytes();
    EXPECT_TRUE(part_exists());
    writer.finish();
    EXPECT_FALSE(part_exists());
    const SafetensorsFile file(path());
    EXPECT_EQ(file.file().bytes().size(), total);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    const TensorView& view = file.tensors().at("a");
    EXPECT_EQ(view.dtype, DType::kBF16);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), view.bytes.begin(), view.bytes.end()));
    EXPECT_EQ((view.bytes.data() - file.file().bytes().data()) % 64, 0);
    const TensorView& odd = file.tensors().at("b\n\"");
    EXPECT_TRUE(std::equal(b.begin(), b.end(), odd.bytes.begin(), odd.bytes.end()));
  }
}

TEST_F(SafetensorsWriterTest, NothingIsLeftWithoutFinish) {
  {
    SafetensorsWriter writer(path(), {{"a", DType::kU8, {4}}}, {});
    writer.write(counted(4, 0));
    EXPECT_TRUE(part_exists());
  }
  EXPECT_FALSE(part_exists());
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(SafetensorsWriterTest, AnOlderFileStaysUntilTheNewOneIsWhole) {
  write("out.safetensors", "old");
  write("out.safetensors.part", std::string(100000, 'x'));  // left by a power cut
  SafetensorsWriter writer(path(), {{"a", DType::kU8, {4}}}, {});
  writer.write(counted(4, 0));
  EXPECT_EQ(std::filesystem::file_size(path()), 3u);
  writer.finish();
  EXPECT_EQ(SafetensorsFile(path()).tensors().size(), 1u);
}

TEST_F(SafetensorsWriterTest, MoreOrFewerBytesThanAnnouncedAreABug) {
  SafetensorsWriter writer(path(), {{"a", DType::kU8, {4}}}, {});
  EXPECT_THROW(writer.write(counted(5, 0)), Error);
  writer.write(counted(3, 0));
  EXPECT_THROW(writer.finish(), Error);
}

TEST_F(SafetensorsWriterTest, RefusesToStartWithoutTheSpace) {
  const std::string sentence = refusal(
      [&] { SafetensorsWriter writer(path(), {{"a", DType::kU8, {int64_t{1} << 55}}}, {}); });
  EXPECT_SAYS(sentence, "not enough free space for " + path().string());
  EXPECT_SAYS(sentence, "bytes needed");
  EXPECT_FALSE(part_exists());
}

TEST_F(SafetensorsWriterTest, RefusesWhatCannotBeAFile) {
  const auto refused = [&](const Entries& entries) {
    return refusal([&] { SafetensorsWriter writer(path(), entries, {}); });
  };
  EXPECT_SAYS(refused({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}), "\"a\" twice");
  EXPECT_SAYS(refused({{"__metadata__", DType::kU8, {1}}}), "reserved");
  EXPECT_SAYS(refused({{"a", DType::kU8, {0}}}), "is empty or overflows");
  EXPECT_SAYS(refused({{"a", DType::kF32, {int64_t{1} << 62, 4}}}), "is empty or overflows");
  EXPECT_SAYS(refused({{"a", DType::kOther, {1}}}), "a dtype");
  EXPECT_SAYS(refusal([&] {
                SafetensorsWriter writer(folder_ / "no/such/folder", {{"a", DType::kU8, {1}}}, {});
              }),
              "No such file or directory");
  EXPECT_FALSE(part_exists());
}

TEST_F(SafetensorsWriterTest, TwoWritersOfOneFileDoNotMix) {
  SafetensorsWriter writer(path(), {{"a", DType::kU8, {4}}}, {});
  EXPECT_SAYS(refusal([&] { SafetensorsWriter second(path(), {{"a", DType::kU8, {4}}}, {}); }),
              "is being written by another process");
  writer.write(counted(4, 0));
  writer.finish();
  EXPECT_EQ(SafetensorsFile(path()).tensors().size(), 1u);
}

// The file system refuses in the middle of the writing, as a full disk does; in a process of its
// own, since the limit stays.
TEST_F(SafetensorsWriterTest, AWriteThatFailsHalfWaySaysSoAndLeavesNothing) {
  const auto write_beyond_the_limit = [&] {
    signal(SIGXFSZ, SIG_IGN);
    const std::string sentence = refusal([&] {
      SafetensorsWriter writer(path(), {{"a", DType::kU8, {8 << 20}}}, {});
      struct rlimit limit = {1 << 20, 1 << 20};
      setrlimit(RLIMIT_FSIZE, &limit);
      writer.write(counted(8 << 20, 0));
      writer.finish();
    });
    fprintf(stderr, "%s%s", sentence.c_str(), part_exists() ? " and left its part" : "");
    _exit(std::filesystem::exists(folder_ / "out.safetensors") || part_exists() ? 2 : 0);
  };
  EXPECT_EXIT(write_beyond_the_limit(), testing::ExitedWithCode(0),
              "cannot write .*out.safetensors: larger than .* allows");
}

}  // namespace
}  // namespace moxie
