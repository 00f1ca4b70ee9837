#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/discovery.h"
#include "moescope/model/identity_store.h"
#include "moescope/model/model.h"

namespace moescope {

/// Where the registry gets its models from; a seam, so that its life cycle can
/// be tested without weights.
/// Threads: implementations are safe from any thread.
class ModelSource {
 public:
  virtual ~ModelSource() = default;

  /// All models there are, by name.
  virtual absl::StatusOr<std::vector<model::ModelFolder>> List() const = 0;
  /// Errors: INVALID_ARGUMENT (field "model"), NOT_FOUND.
  virtual absl::StatusOr<model::ModelFolder> Resolve(
      absl::string_view name) const = 0;
  /// Changes whenever a file of the folder does (names, sizes, times, inodes);
  /// reads no content.
  virtual absl::StatusOr<std::string> Fingerprint(
      const model::ModelFolder& folder) const = 0;
  virtual absl::StatusOr<std::shared_ptr<const model::Checkpoint>> Open(
      const model::ModelFolder& folder) const = 0;
  virtual model::MemoryEstimate Estimate(
      const model::Checkpoint& checkpoint) const = 0;
  /// Makes the checkpoint resident; stops soon after `context` is cancelled.
  virtual absl::StatusOr<std::shared_ptr<const model::Model>> Load(
      std::shared_ptr<const model::Checkpoint> checkpoint, ThreadPool& pool,
      const RunContext& context) const = 0;
};

/// The folders under `model_root`, loaded onto `device` ("cpu", "cuda:0"; as
/// model::ResolveDevice returns it). A load reads the weights, so it also files
/// their content hash in `identities` where that is not known yet, and refuses
/// what is known there to be damaged; nullptr: nothing is hashed. `identities`
/// outlives the source.
std::unique_ptr<ModelSource> MakeFolderModelSource(
    std::string model_root, std::string device,
    model::IdentityStore* identities);

}  // namespace moescope
