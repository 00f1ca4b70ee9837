#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "moescope/base/mapped_file.h"
#include "moescope/model/config.h"
#include "moescope/model/safetensors.h"
#include "moescope/model/shapes.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::model {

class Tokenizer;

namespace internal {
struct LayerTensors;
struct ModelTensors;
}  // namespace internal

/// The matrices of one expert as they lie on disk, read in place. Each has its
/// own element type.
struct ExpertWeights {
  /// Indexed by Projection.
  std::array<numerics::MatrixView, kNumProjections> projections;
  const numerics::MatrixView& operator[](Projection projection) const {
    return projections[static_cast<std::size_t>(projection)];
  }
};

/// What identifies the weights in a result's key (design: model identity).
struct ModelIdentity {
  /// "content:<sha256>" where the content hash is known (the blob names of a
  /// Hugging Face cache, or tree hashes of the files); else
  /// "stat:<sha256 of path, size, mtime_ns, ctime_ns, inode of each file>".
  std::string id;
  bool is_content_hash = false;
};

/// A model folder: config.json, the weights, mapped without copying, and the
/// tokenizer if there is one. Weights are the first of model.safetensors, the
/// shards that model.safetensors.index.json names, pytorch_model.bin, and the
/// shards that pytorch_model.bin.index.json names; other files are ignored.
/// That is the order of transformers (from_pretrained), by which an index that
/// was left beside a whole model does not count. Static analyses work on this
/// alone; a forward pass needs a Model made from it.
/// Threads: immutable after Open.
class Checkpoint {
 public:
  /// Opens `folder`. Every tensor of the feed-forward blocks and their routers
  /// that the family's table asks for must be there with the shape that
  /// config.json implies; what a forward pass asks for beyond them is left to
  /// forward_status. Messages name files without their folders.
  /// Errors: NOT_FOUND (no folder); FAILED_PRECONDITION (no config.json, no
  /// weights, a missing tensor: named); UNIMPLEMENTED (family, dtype: named);
  /// DATA_LOSS (files contradict themselves: file, tensor, expected and found).
  static absl::StatusOr<std::shared_ptr<const Checkpoint>> Open(
      const std::string& folder);
  ~Checkpoint();

  const ModelConfig& config() const { return config_; }
  /// As known without reading the weights; IdentityStore may know more.
  const ModelIdentity& identity() const { return identity_; }
  /// The identity that goes with these tree hashes (tree_hash.h) of the
  /// weight_files(), in their order.
  ModelIdentity ContentIdentity(absl::Span<const std::string> roots) const;
  /// The files with the weights, by name.
  const std::vector<std::shared_ptr<const MappedFile>>& weight_files() const {
    return weight_files_;
  }
  /// OK when everything read from the weights so far was what the files held
  /// when the checkpoint was opened: ask after reading, before using the
  /// outcome. Cost: one stat per file. Errors: DATA_LOSS FILE_CHANGED, naming
  /// the file.
  absl::Status CheckIntact() const;
  /// nullptr when the folder has no tokenizer that we can read, or one with
  /// token ids beyond the model's vocabulary; then tokenizer_status says why.
  const std::shared_ptr<const Tokenizer>& tokenizer() const {
    return tokenizer_;
  }
  const absl::Status& tokenizer_status() const { return tokenizer_status_; }
  /// OK, or why no Model can be made of it: a feature of the attention
  /// (UNIMPLEMENTED), a missing tensor (FAILED_PRECONDITION) or one of another
  /// shape (DATA_LOSS), named. Experts and routers can be read all the same.
  const absl::Status& forward_status() const { return forward_status_; }
  /// Sum of the weight files' sizes.
  std::int64_t weight_bytes() const { return weight_bytes_; }
  /// Format of most weight bytes: "BF16", quantised "MXFP4 + BF16".
  std::string dtype() const;

  /// nullptr when there is no such tensor.
  const TensorEntry* FindTensor(absl::string_view name) const;

  /// Router rows [E, D] of MoE layer `layer`.
  absl::StatusOr<numerics::MatrixView> Router(std::int64_t layer) const;
  /// Routed expert `expert` of MoE layer `layer`.
  /// Errors: OUT_OF_RANGE; FAILED_PRECONDITION for a dense layer.
  absl::StatusOr<ExpertWeights> Expert(std::int64_t layer,
                                       std::int64_t expert) const;
  /// The shared experts' block of `layer`; nullopt where that layer has none.
  absl::StatusOr<std::optional<ExpertWeights>> SharedExpert(
      std::int64_t layer) const;
  /// The feed-forward block of dense layer `layer` (of a dense model: any).
  absl::StatusOr<ExpertWeights> DenseBlock(std::int64_t layer) const;

  /// All tensors by role, for the forward pass of this layer
  /// (server/model/layer_tensors_internal.h). Complete when forward_status is
  /// OK.
  const internal::ModelTensors& tensors_by_role() const { return *by_role_; }

 private:
  Checkpoint();
  absl::StatusOr<const internal::LayerTensors*> Layer(std::int64_t layer) const;

  ModelConfig config_;
  ModelIdentity identity_;
  std::string folder_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  absl::Status tokenizer_status_;
  std::string text_digests_;  // Of config.json and the index.
  std::vector<std::shared_ptr<const MappedFile>> weight_files_;
  absl::Status forward_status_;
  std::vector<std::shared_ptr<const void>> tensor_owners_;
  std::map<std::string, const TensorEntry*, std::less<>> tensors_;
  std::unique_ptr<const internal::ModelTensors> by_role_;
  std::int64_t weight_bytes_ = 0;
};

}  // namespace moescope::model
