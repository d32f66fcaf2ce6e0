#include "convert/staged_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "convert/test_folders.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

TEST(StagedFolder, AppearsOnlyByCommit) {
  const ScratchFolder scratch;
  {
    StagedFolder folder(scratch / "out", {});
    folder.write_file("a.txt", "alpha");
    EXPECT_FALSE(fs::exists(scratch / "out"));
    EXPECT_EQ(scratch.entries().size(), 1u);
    EXPECT_EQ(scratch.entries()[0].rfind(".out.moxie-", 0), 0u) << scratch.entries()[0];
    folder.commit();
  }
  EXPECT_EQ(scratch.entries(), Names{"out"});
  EXPECT_EQ(read_text(scratch / "out/a.txt"), "alpha");
}

TEST(StagedFolder, LeavesNothingWithoutCommit) {
  const ScratchFolder scratch;
  try {
    StagedFolder folder(scratch / "out", {});
    folder.write_file("a.txt", "alpha");
    fs::create_directory(folder.path() / "deeper");
    throw 1;
  } catch (int) {
  }
  EXPECT_EQ(scratch.entries(), Names{});
}

TEST(StagedFolder, TakesThePlaceOfAnEmptyFolder) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "out");
  fs::create_directory_symlink(scratch / "out", scratch / "link");
  StagedFolder folder((scratch / "link").string() + "/", {});
  folder.write_file("a.txt", "alpha");
  folder.commit();
  EXPECT_EQ(read_text(scratch / "out/a.txt"), "alpha");
  EXPECT_TRUE(fs::is_symlink(scratch / "link"));
}

TEST(StagedFolder, RefusesToOverwrite) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "full");
  write_text(scratch / "full/mine", "precious");
  write_text(scratch / "file", "precious");
  EXPECT_NE(error_of([&] { StagedFolder(scratch / "full", {}); }).find("not empty"),
            std::string::npos);
  EXPECT_NE(error_of([&] { StagedFolder(scratch / "file", {}); }).find("not a folder"),
            std::string::npos);
  EXPECT_NE(error_of([&] { StagedFolder(scratch / "no/such/out", {}); }).find("make it first"),
            std::string::npos);
  EXPECT_NE(error_of([&] { StagedFolder("", {}); }), "");
  EXPECT_EQ(scratch.entries(), (Names{"file", "full"}));
  EXPECT_EQ(read_text(scratch / "full/mine"), "precious");
}

TEST(StagedFolder, RefusesTheInputAndWhatLiesInIt) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "in");
  fs::create_directory(scratch / "in/sub");
  EXPECT_NE(error_of([&] {
              StagedFolder(scratch / "in/sub/../../in", scratch / "in");
            }).find("same folder"),
            std::string::npos);
  EXPECT_NE(error_of([&] { StagedFolder(scratch / "in/sub/out", scratch / "in"); }).find("inside"),
            std::string::npos);
  EXPECT_EQ(error_of([&] { StagedFolder(scratch / "in2", scratch / "in"); }), "");
}

TEST(StagedFolder, CommitFailsWhenSomebodyElseTookTheName) {
  const ScratchFolder scratch;
  const std::string sentence = error_of([&] {
    StagedFolder folder(scratch / "out", {});
    folder.write_file("a.txt", "alpha");
    fs::create_directory(scratch / "out");
    write_text(scratch / "out/b.txt", "theirs");
    folder.commit();
  });
  EXPECT_NE(sentence.find("cannot rename"), std::string::npos) << sentence;
  EXPECT_EQ(scratch.entries(), Names{"out"});
  EXPECT_EQ(read_text(scratch / "out/b.txt"), "theirs");
}

TEST(StagedFolder, RemovesWhatAKilledProcessLeft) {
  const ScratchFolder scratch;
  const pid_t child = fork();
  if (child == 0) {
    StagedFolder folder(scratch / "out", {});
    folder.write_file("a.txt", "alpha");
    _exit(0);  // as SIGKILL would: no destructor
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  ASSERT_EQ(scratch.entries().size(), 1u);
  fs::create_directory(scratch / ".other.moxie-1");  // of another output: not ours to touch
  {
    StagedFolder folder(scratch / "out", {});
  }
  EXPECT_EQ(scratch.entries(), Names{".other.moxie-1"});
}

TEST(StagedFolder, LeavesTheFolderOfALivingProcess) {
  const ScratchFolder scratch;
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();
  char byte = 0;
  if (child == 0) {
    StagedFolder folder(scratch / "out", {});
    if (write(ready[1], "r", 1) != 1 || read(done[0], &byte, 1) != 1) _exit(2);
    folder.commit();
    _exit(0);
  }
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  {
    StagedFolder folder(scratch / "out", {});
  }
  ASSERT_EQ(write(done[1], "d", 1), 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(scratch.entries(), Names{"out"});
}

TEST(StagedFolder, NamesNeededAndFreeBytes) {
  const ScratchFolder scratch;
  const StagedFolder folder(scratch / "out", {});
  folder.require_space(1);
  const std::string sentence = error_of([&] { folder.require_space(uint64_t{1} << 60); });
  EXPECT_NE(sentence.find("needs 1152921504606846976 bytes"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find(" free"), std::string::npos) << sentence;
}

TEST(StagedFolder, CopiesOnlyRegularFiles) {
  const ScratchFolder scratch;
  write_text(scratch / "a", std::string("\0\xff text", 7));
  fs::create_symlink(scratch / "a", scratch / "link");
  ASSERT_EQ(mkfifo((scratch / "fifo").c_str(), 0600), 0);
  StagedFolder folder(scratch / "out", {});
  folder.copy_file(scratch / "link", "copy");
  EXPECT_EQ(read_text(folder.path() / "copy"), read_text(scratch / "a"));
  EXPECT_FALSE(fs::is_symlink(folder.path() / "copy"));
  EXPECT_NE(error_of([&] { folder.copy_file(scratch / "fifo", "other"); }), "");
}

}  // namespace
}  // namespace moxie
