// Tensors on their way from one folder to another: each is a name, a shape and a function that
// hands out its bytes in order, in pieces.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "checkpoint/checkpoint.h"
#include "convert/convert.h"
#include "convert/staged_folder.h"
#include "convert/tensor_table.h"

namespace moxie {

// Takes the next bytes of the tensor being produced; throws Cancelled.
using Emit = FunctionRef<void(std::span<const uint8_t>)>;

struct TensorStream {
  std::string name;
  DType dtype = DType::kOther;
  std::vector<int64_t> shape;
  std::function<void(Emit)> produce;

  uint64_t size_bytes() const;
};

inline constexpr size_t kPieceBytes = size_t{8} << 20;

// The bytes of a mapped tensor; pages are asked for ahead and given back behind.
std::function<void(Emit)> copy_of(const TensorView& tensor);
// Gives back the pages of a piece of a mapped tensor that will not be needed again.
void drop_pages(const TensorView& tensor, std::span<const uint8_t> piece);

// Which tensors go to which file: indices into `sizes`, in order, cut greedily.
std::vector<std::vector<size_t>> cut_into_shards(std::span<const uint64_t> sizes,
                                                 uint64_t max_bytes);
// "model.safetensors" for one file. Several, counted from 1 with the true count, as transformers
// names them today: "model-00001-of-00003.safetensors"; in the original layout with two dashes.
std::string shard_name(size_t index, size_t count, TargetLayout layout);

// Writes the tensors to the folder's files: by name, cut at max_bytes; within a file the larger
// element types first, as the published files are. Hugging Face's layouts get
// model.safetensors.index.json when there are several files. Tensors that differ only in the ending
// of their names and have one element type are produced in the order of their names.
WriteSummary write_tensors(const StagedFolder& folder, std::vector<TensorStream> tensors,
                           TargetLayout layout, uint64_t max_shard_bytes, uint64_t companion_bytes,
                           const Progress& progress);

}  // namespace moxie
