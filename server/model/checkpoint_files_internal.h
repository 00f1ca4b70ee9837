#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/model/checkpoint.h"
#include "moescope/model/safetensors.h"
#include "server/model/tensor_binder_internal.h"

namespace moescope::model::internal {

/// One file of weights, of either format.
struct WeightShard {
  std::shared_ptr<const MappedFile> mapped;
  /// All tensors in the file.
  const std::map<std::string, TensorEntry>* tensors = nullptr;
  /// Keeps `tensors` alive.
  std::shared_ptr<const void> owner;
};

/// The weights of a model folder: shards by name, and the tensors that count.
struct CheckpointFiles {
  std::string config_text;
  std::string index_text;  // empty without an index
  std::string index_name;
  std::vector<WeightShard> shards;
  TensorMap tensors;
};

/// Reads `folder`/config.json and maps the weights (in the order that
/// Checkpoint tells).
/// Errors: as Checkpoint::Open.
absl::StatusOr<CheckpointFiles> OpenCheckpointFiles(const std::string& folder);

/// Digests of config.json and the index, a line each: what of a content hash is
/// not weights.
std::string TextDigests(const CheckpointFiles& files);

/// A content hash where every shard is (a link to) a blob of a Hugging Face
/// cache: large blobs are named by the SHA-256 of their bytes. Else what stat
/// says of each file. Errors: NOT_FOUND, PERMISSION_DENIED, INTERNAL (stat).
absl::StatusOr<ModelIdentity> IdentifyModel(const std::string& folder,
                                            const CheckpointFiles& files);

}  // namespace moescope::model::internal
