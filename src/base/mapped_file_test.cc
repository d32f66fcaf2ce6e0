#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "moxie/error.h"

namespace moxie {
namespace {

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("moxie_mapped_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

std::string refusal(const std::filesystem::path& path) {
  try {
    MappedFile file(path);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
    return error.what();
  }
  return "accepted";
}

TEST_F(MappedFileTest, ShowsTheBytesOfAFile) {
  std::ofstream(folder_ / "f") << "hello";
  MappedFile file(folder_ / "f");
  EXPECT_EQ(std::string(file.bytes().begin(), file.bytes().end()), "hello");
  const MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().size(), 5u);
  EXPECT_TRUE(file.bytes().empty());
}

TEST_F(MappedFileTest, AnEmptyFileIsEmpty) {
  std::ofstream(folder_ / "f").flush();
  EXPECT_TRUE(MappedFile(folder_ / "f").bytes().empty());
}

TEST_F(MappedFileTest, RefusesWhatIsNoRegularFile) {
  EXPECT_NE(refusal(folder_ / "missing"), "accepted");
  EXPECT_NE(refusal(folder_), "accepted");
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_NE(refusal(folder_ / "fifo"), "accepted");
  EXPECT_NE(refusal("/dev/null"), "accepted");
}

TEST_F(MappedFileTest, AFileCutWhileMappedEndsTheProcessWithASentence) {
  const auto path = folder_ / "f";
  std::ofstream(path) << std::string(1 << 20, 'x');
  EXPECT_EXIT(
      {
        MappedFile file(path);
        std::filesystem::resize_file(path, 10);
        volatile uint8_t byte = file.bytes()[500000];
        (void)byte;
      },
      testing::ExitedWithCode(1), "was cut short or replaced while it was in use");
}

}  // namespace
}  // namespace moxie
