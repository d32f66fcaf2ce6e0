#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

class ResolveModelTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    setenv("HF_HUB_CACHE", (folder_ / "hub").c_str(), 1);
    fs::create_directories(folder_ / "hub");
  }
  void TearDown() override {
    unsetenv("HF_HUB_CACHE");
    FolderTest::TearDown();
  }
  fs::path cached() const { return folder_ / "hub/models--openai--gpt-oss-20b"; }
  std::string refused(std::string_view model) const {
    return refusal([&] { resolve_model(model); });
  }
};

TEST_F(ResolveModelTest, AFolderIsItself) {
  write("model/config.json", "{}");
  EXPECT_EQ(resolve_model((folder_ / "model").string()), folder_ / "model");
}

TEST_F(ResolveModelTest, AFolderWithNothingButTheOriginalLayoutLeadsToIt) {
  write("model/original/config.json", "{}");
  EXPECT_EQ(resolve_model((folder_ / "model").string()), folder_ / "model/original");
  write("model/config.json", "{}");
  EXPECT_EQ(resolve_model((folder_ / "model").string()), folder_ / "model");
}

TEST_F(ResolveModelTest, AnIdIsFoundThroughItsMainRef) {
  write(cached() / "refs/main", "0123abcd\n");
  write(cached() / "snapshots/0123abcd/config.json", "{}");
  write(cached() / "snapshots/ffff/config.json", "{}");
  EXPECT_EQ(resolve_model("openai/gpt-oss-20b"), cached() / "snapshots/0123abcd");
}

TEST_F(ResolveModelTest, AnIdWithoutRefsIsItsOnlySnapshot) {
  write(cached() / "snapshots/ffff/original/config.json", "{}");
  EXPECT_EQ(resolve_model("openai/gpt-oss-20b"), cached() / "snapshots/ffff/original");
  write(cached() / "snapshots/eeee/config.json", "{}");
  EXPECT_SAYS(refused("openai/gpt-oss-20b"), "holds 2 snapshots");
}

TEST_F(ResolveModelTest, SaysWhereItLookedAndWhatToDo) {
  EXPECT_SAYS(refused("openai/gpt-oss-20b"), cached().string());
  EXPECT_SAYS(refused("openai/gpt-oss-20b"), "hf download openai/gpt-oss-20b");
  EXPECT_SAYS(refused("no-such-folder"), "there is no folder no-such-folder");
  EXPECT_SAYS(refused(""), "the model is empty");
  write("file", "");
  EXPECT_SAYS(refused((folder_ / "file").string()), "is not a folder");
  write(cached() / "refs/main", "gone");
  EXPECT_SAYS(refused("openai/gpt-oss-20b"), "names the snapshot \"gone\"");
}

TEST_F(ResolveModelTest, HostileRow11IdsAndRefsThatLeadOutOfTheCache) {
  write("secret/config.json", "{}");
  for (const char* model : {"../secret", "openai/../../secret", "a/b/c", "./x/y", ".hidden/x",
                            "a/..", "a b/c", "-x/y", "/absent"})
    EXPECT_SAYS(refused(model), "there is no folder");
  for (const char* hash : {"../../../secret", "..", ".", "", "a/b"}) {
    write(cached() / "refs/main", hash);
    EXPECT_SAYS(refused("openai/gpt-oss-20b"), "names the snapshot");
  }
  // A ref that is a link out of its folder.
  fs::remove(cached() / "refs/main");
  fs::create_symlink(folder_ / "outside", cached() / "refs/main");
  write("outside", "0123abcd");
  EXPECT_SAYS(refused("openai/gpt-oss-20b"), "is a link to");
}

}  // namespace
}  // namespace moxie
