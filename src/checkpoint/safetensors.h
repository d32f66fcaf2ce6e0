// One .safetensors file: a validated header over a mapped file. And a writer of such files.
//
// Format: u64 little-endian header length, JSON header, data. Offsets in the header count from the
// end of the header. Data starts 8-byte aligned at best: views promise no more than the alignment
// of one byte.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"

namespace moxie {

// A tensor inside a mapped file; valid as long as the file's owner.
struct TensorView {
  DType dtype = DType::kOther;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;
  const MappedFile* file = nullptr;

  int64_t num_elements() const;
};

// "[32, 5760, 90, 16]"
std::string shape_to_string(std::span<const int64_t> shape);

// Throws Error (kIo or kInvalidArgument) naming file, tensor, expected and found: a file shorter
// than it says; a header length of 0, over 100 MB or over the file; bad JSON; duplicate names;
// unknown dtype; shapes whose product overflows or with a zero or more than 16 dimensions; offsets
// that are negative, reversed, outside, overlapping, leave holes or do not match shape and dtype.
// Nothing of the data is read.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const MappedFile& file() const { return *file_; }

 private:
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Parses a header alone: for tests and the fuzzer. `header` is the JSON text, `data_bytes` the size
// of what follows it.
std::map<std::string, TensorView, std::less<>> parse_safetensors_header(
    std::string_view header, std::span<const uint8_t> data, std::string_view source,
    std::map<std::string, std::string>* metadata);

// Writes one file of tensors that are announced first and then written strictly in order, in pieces
// of any size, so that nothing has to fit in memory. The data area starts 64-byte aligned (the
// header is padded with blanks). The file appears under `path` only by finish(): until then it is
// `path` + ".part", which the destructor removes.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
  };
  // Checks free space on the file system first: Error(kIo) names needed and free bytes.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<Entry> entries,
                    const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();
  SafetensorsWriter(SafetensorsWriter&&) noexcept;

  // Bytes of the tensors in the order announced. Error(kIo) when the disk is full, with what to do.
  void write(std::span<const uint8_t> bytes);
  // REQUIRES: every byte announced was written. fsync, rename.
  void finish();
  uint64_t total_bytes() const;  // header included

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moxie
