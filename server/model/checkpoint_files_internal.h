#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/model/checkpoint.h"
#include "moescope/model/safetensors.h"
#include "server/model/tensor_binder_internal.h"

namespace moescope::model::internal {

/// The weights of a model folder: shards by name, and the tensors that count.
struct CheckpointFiles {
  std::string config_text;
  std::string index_text;  // empty without an index
  std::vector<std::shared_ptr<const SafetensorsFile>> shards;
  TensorMap tensors;
};

/// Reads `folder`/config.json and maps the shards that
/// model.safetensors.index.json names, or else model.safetensors.
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
