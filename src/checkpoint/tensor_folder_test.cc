#include <gtest/gtest.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/folder_file.h"
#include "checkpoint/test_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

class TensorFolderTest : public FolderTest {
 protected:
  // A file with these tensors, four bytes each.
  void write_shard(const fs::path& name, const std::vector<std::string>& tensors) const {
    std::string header = "{";
    for (size_t i = 0; i < tensors.size(); ++i)
      header += (i == 0 ? "\"" : ",\"") + tensors[i] +
                R"(":{"dtype":"BF16","shape":[2],"data_offsets":[)" + std::to_string(4 * i) + "," +
                std::to_string(4 * i + 4) + "]}";
    write(name, safetensors_bytes(header + "}", 4 * tensors.size()));
  }
  void write_index(const std::string& weight_map) const {
    write("model.safetensors.index.json",
          R"({"metadata":{"total_size":1},"weight_map":)" + weight_map + "}");
  }
  std::string refused() const {
    return refusal([&] { TensorFolder folder(folder_); });
  }
};

TEST_F(TensorFolderTest, OneFileWithoutIndex) {
  write_shard("model.safetensors", {"a", "b"});
  write("README.md", "not a tensor");
  const TensorFolder folder(folder_);
  EXPECT_EQ(folder.tensors().size(), 2u);
  EXPECT_EQ(folder.total_bytes(), 8u);
  EXPECT_EQ(folder.find("c"), nullptr);
  ASSERT_NE(folder.find("b"), nullptr);
  EXPECT_EQ(folder.find("b")->file, &folder.files()[0].file());
}

TEST_F(TensorFolderTest, ShardsOfTheOriginalLayoutAreFoundByTheirHeaders) {
  write_shard("model--00001-of-00002.safetensors", {"block.0.attn.sinks"});
  write_shard("model--00002-of-00002.safetensors", {"norm.scale", "block.1.attn.sinks"});
  const TensorFolder folder(folder_);
  EXPECT_EQ(folder.files().size(), 2u);
  EXPECT_EQ(folder.tensors().size(), 3u);
}

TEST_F(TensorFolderTest, AnIndexSaysWhichFilesCount) {
  write_shard("model-00000-of-00001.safetensors", {"a"});
  write_shard("model-00001-of-00001.safetensors", {"b"});
  write_shard("other.safetensors", {"a", "b"});  // named by nobody
  write_index(R"({"a":"model-00000-of-00001.safetensors","b":"model-00001-of-00001.safetensors"})");
  const TensorFolder folder(folder_);
  EXPECT_EQ(folder.files().size(), 2u);
  EXPECT_EQ(folder.find("b")->file->path().filename(), "model-00001-of-00001.safetensors");
}

TEST_F(TensorFolderTest, MovedFoldersKeepTheirViews) {
  write_shard("model.safetensors", {"a"});
  TensorFolder folder(folder_);
  const TensorFolder moved = std::move(folder);
  EXPECT_EQ(moved.find("a")->bytes.size(), 4u);
  EXPECT_EQ(moved.find("a")->file, &moved.files()[0].file());
}

TEST_F(TensorFolderTest, SaysWhatIsMissing) {
  EXPECT_SAYS(refused(), "holds no .safetensors file");
  EXPECT_SAYS(refusal([&] { TensorFolder folder(folder_ / "absent"); }), "there is no folder");
  write("file", "");
  EXPECT_SAYS(refusal([&] { TensorFolder folder(folder_ / "file"); }), "is not a folder");
}

// ---- row 5 --------------------------------------------------------------------------------------

TEST_F(TensorFolderTest, HostileRow05OneTensorInTwoShards) {
  write_shard("one.safetensors", {"a", "b"});
  write_shard("two.safetensors", {"b"});
  const std::string sentence = refused();
  EXPECT_SAYS(sentence, "two.safetensors: tensor \"b\" is also in");
  EXPECT_SAYS(sentence, "one.safetensors");
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  EXPECT_SAYS(refused(), "is also in");
}

TEST_F(TensorFolderTest, HostileRow05IndexNamesAMissingShard) {
  write_shard("one.safetensors", {"a"});
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  EXPECT_SAYS(refused(), "names two.safetensors, which is not in the folder");
}

TEST_F(TensorFolderTest, HostileRow05IndexAndHeadersDisagree) {
  write_shard("one.safetensors", {"a"});
  write_shard("two.safetensors", {"b"});
  write_index(R"({"a":"one.safetensors","b":"one.safetensors"})");
  EXPECT_SAYS(refused(), "tensor \"b\" is said to be in one.safetensors, but no file has it");
  write_index(R"({"a":"two.safetensors","b":"one.safetensors"})");
  EXPECT_SAYS(refused(), "but it is in");
  write_index(R"({"a":"one.safetensors","a":"two.safetensors"})");
  EXPECT_SAYS(refused(), "duplicate key \"a\"");
}

TEST_F(TensorFolderTest, HostileRow05IndexThatIsNone) {
  write_shard("one.safetensors", {"a"});
  write_index("[]");
  EXPECT_SAYS(refused(), "expected a JSON object");
  write_index("{}");
  EXPECT_SAYS(refused(), "names no tensor");
  write_index(R"({"a":7})");
  EXPECT_SAYS(refused(), "expected a file name, found 7");
  write("model.safetensors.index.json", "{}");
  EXPECT_SAYS(refused(), "\"weight_map\" is missing");
  write("model.safetensors.index.json", "{");
  EXPECT_SAYS(refused(), "not valid JSON");
  write("model.safetensors.index.json", "");
  EXPECT_SAYS(refused(), "not valid JSON");
}

TEST_F(TensorFolderTest, HostileRow05TooManyShards) {
  std::string map = "{";
  for (int i = 0; i < 300; ++i) {
    const std::string i_text = std::to_string(i);
    map += (i == 0 ? "\"" : ",\"") + i_text + "\":\"" + i_text + ".safetensors\"";
  }
  write_index(map + "}");
  EXPECT_SAYS(refused(), "300 .safetensors files, expected at most");
}

// ---- row 6 --------------------------------------------------------------------------------------

TEST_F(TensorFolderTest, HostileRow06WrongDtypeShapeOrNoTensorAtAll) {
  write_shard("model.safetensors", {"a"});
  const TensorFolder folder(folder_);
  const int64_t shape[] = {2};
  EXPECT_EQ(&folder.require("a", {DType::kBF16, DType::kF32}, shape), folder.find("a"));
  const std::string dtype = refusal([&] { folder.require("a", {DType::kU8}, shape); });
  EXPECT_SAYS(dtype, "model.safetensors: tensor \"a\": expected U8 [2], found BF16 [2]");
  const int64_t other[] = {2, 1};
  EXPECT_SAYS(refusal([&] { folder.require("a", {DType::kBF16, DType::kF32}, other); }),
              "expected BF16 or F32 [2, 1], found BF16 [2]");
  EXPECT_SAYS(refusal([&] { folder.require("a_bias", {DType::kBF16}, shape); }),
              "tensor \"a_bias\" is missing; expected BF16 [2]");
}

// ---- row 9 --------------------------------------------------------------------------------------

TEST_F(TensorFolderTest, HostileRow09VocabularyUnlikeTheEmbeddingRows) {
  write(
      "model.safetensors",
      safetensors_bytes(R"({"embed":{"dtype":"BF16","shape":[10,2],"data_offsets":[0,40]}})", 40));
  const TensorFolder folder(folder_);
  const int64_t shape[] = {11, 2};  // as a config.json with vocab_size 11 would have it
  EXPECT_SAYS(refusal([&] { folder.require("embed", {DType::kBF16}, shape); }),
              "expected BF16 [11, 2], found BF16 [10, 2]");
}

// ---- row 11 -------------------------------------------------------------------------------------

TEST_F(TensorFolderTest, HostileRow11IndexNamesPaths) {
  write_shard("model.safetensors", {"a"});
  for (const char* name : {"/etc/passwd", "../model.safetensors", "sub/model.safetensors", "..",
                           ".", "", "a\\u0000.safetensors", "..\\\\x.safetensors", "config.json",
                           "/tmp/x.safetensors", "x\\n.safetensors"}) {
    write_index("{\"a\":\"" + std::string(name) + "\"}");
    EXPECT_SAYS(refused(), "expected the name of a .safetensors file in the same folder");
  }
}

TEST_F(TensorFolderTest, HostileRow11LinksThatLeadOutOfTheFolder) {
  const fs::path outside = folder_ / "outside", model = folder_ / "model";
  fs::create_directories(outside);
  fs::create_directories(model);
  write_shard("outside/x.safetensors", {"a"});
  fs::create_symlink(outside / "x.safetensors", model / "x.safetensors");
  const auto refused_model = [&] { return refusal([&] { TensorFolder folder(model); }); };
  EXPECT_SAYS(refused_model(),
              "x.safetensors is a link to " + (outside / "x.safetensors").string());
  // By way of a second link, or of a folder with the same beginning.
  fs::rename(model / "x.safetensors", model / "y");
  fs::create_symlink("y", model / "x.safetensors");
  EXPECT_SAYS(refused_model(), "expected a file in the model folder");
  fs::remove(model / "x.safetensors");
  fs::remove(model / "y");
  write_shard("model2/x.safetensors", {"a"});
  fs::create_symlink("../model2/x.safetensors", model / "x.safetensors");
  EXPECT_SAYS(refused_model(), "expected a file in the model folder");
}

TEST_F(TensorFolderTest, HostileRow11LinksToNothingOrToWhatIsNoFile) {
  fs::create_symlink("absent", folder_ / "x.safetensors");
  EXPECT_SAYS(refused(), "is a link to absent, which cannot be reached");
  fs::remove(folder_ / "x.safetensors");
  fs::create_symlink("x.safetensors", folder_ / "x.safetensors");
  EXPECT_SAYS(refused(), "cannot be reached");
  fs::remove(folder_ / "x.safetensors");
  fs::create_directories(folder_ / "sub");
  fs::create_symlink("sub", folder_ / "x.safetensors");
  EXPECT_SAYS(refused(), "which is not a regular file");
  fs::remove(folder_ / "x.safetensors");
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  fs::create_symlink("fifo", folder_ / "x.safetensors");
  EXPECT_SAYS(refused(), "which is not a regular file");
}

TEST_F(TensorFolderTest, HostileRow11FifoOrFolderInPlaceOfAShardOrTheIndex) {
  ASSERT_EQ(mkfifo((folder_ / "x.safetensors").c_str(), 0600), 0);
  EXPECT_SAYS(refused(), "not a regular file");
  fs::remove(folder_ / "x.safetensors");
  fs::create_directories(folder_ / "x.safetensors");
  EXPECT_SAYS(refused(), "not a regular file");
  fs::remove(folder_ / "x.safetensors");
  write_shard("x.safetensors", {"a"});
  ASSERT_EQ(mkfifo((folder_ / "model.safetensors.index.json").c_str(), 0600), 0);
  EXPECT_SAYS(refused(), "not a regular file");
}

TEST_F(TensorFolderTest, LinksWithinTheFolderAreFollowed) {
  write_shard("sub/real", {"a"});
  fs::create_symlink("sub/real", folder_ / "x.safetensors");
  EXPECT_EQ(TensorFolder(folder_).tensors().size(), 1u);
  // Also when the folder itself is reached through a link.
  fs::create_symlink(folder_, folder_ / "sub/again");
  EXPECT_EQ(TensorFolder(folder_ / "sub/again").tensors().size(), 1u);
}

TEST_F(TensorFolderTest, LinksOfTheHuggingFaceCacheLeadToItsBlobs) {
  const fs::path cached = folder_ / "models--openai--gpt-oss-20b";
  const fs::path snapshot = cached / "snapshots/0123abcd";
  fs::create_directories(snapshot / "original");
  write_shard("models--openai--gpt-oss-20b/blobs/cafe", {"a"});
  fs::create_symlink("../../blobs/cafe", snapshot / "model.safetensors");
  fs::create_symlink("../../../blobs/cafe", snapshot / "original/model.safetensors");
  EXPECT_EQ(TensorFolder(snapshot).tensors().size(), 1u);
  EXPECT_EQ(TensorFolder(snapshot / "original").tensors().size(), 1u);
  // Another model's blobs are not this one's.
  write_shard("models--other--model/blobs/cafe", {"a"});
  fs::create_symlink("../../../models--other--model/blobs/cafe", snapshot / "x.safetensors");
  EXPECT_SAYS(refusal([&] { TensorFolder folder(snapshot); }), "expected a file in the model");
}

TEST_F(TensorFolderTest, HostileRow11ReadingATextStopsAtItsLimit) {
  write("big", std::string(1001, 'x'));
  EXPECT_SAYS(refusal([&] { read_folder_file(folder_, "big", 1000); }),
              "1001 bytes, expected at most 1000");
  EXPECT_EQ(read_folder_file(folder_, "big", 1001).size(), 1001u);
  write("empty", "");
  EXPECT_EQ(read_folder_file(folder_, "empty", 10), "");
}

}  // namespace
}  // namespace moxie
