#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "moescope/model/config.h"
#include "server/model/config_reader_internal.h"
#include "server/model/layer_tensors_internal.h"
#include "server/model/tensor_binder_internal.h"

namespace moescope::model::internal {

/// One architecture: how its config.json reads and what its tensors are called.
/// A further one is a file in this folder that fills such a row, its line in
/// registry.cc and, where its router is new, a rule in router_rules.cc.
struct Family {
  std::string name;
  /// Values of config.json's model_type that mean this family.
  std::vector<std::string> model_types;
  /// Fills everything but family and model_type. What a forward pass alone
  /// needs and is wrong goes to forward_status (ForForwardAlone). Errors: as
  /// ParseConfig.
  absl::Status (*parse)(const ConfigReader& json, ModelConfig& config);
  /// Finds routers, experts, shared and dense blocks of all layers; `tensors`
  /// has a row for each. Static analyses need no more.
  /// Errors: as TensorBinder::Require.
  absl::Status (*bind_blocks)(const TensorBinder& binder,
                              ModelTensors& tensors);
  /// Finds the rest, which a forward pass needs too. Errors: likewise.
  absl::Status (*bind_rest)(const TensorBinder& binder, ModelTensors& tensors);
  /// Entries of config.json's `architectures` that mean this family where there
  /// is no model_type.
  std::vector<std::string> architectures = {};
};

/// Keeps the first `status` that is not OK, of what a forward pass alone needs,
/// in config.forward_status.
void ForForwardAlone(absl::Status status, ModelConfig& config);

/// All rows. Threads: safe.
absl::Span<const Family> Families();

/// The row for `model_type`. Errors: UNIMPLEMENTED listing the known types.
absl::StatusOr<const Family*> FindFamily(absl::string_view model_type);

/// The row for a config.json: by model_type, else by architectures, else by the
/// class that auto_map names. Errors: DATA_LOSS (none says it); UNIMPLEMENTED
/// (unknown model_type).
absl::StatusOr<const Family*> FindFamily(const ConfigReader& json);

/// The row that read `config`: that of its model_type, which may have called
/// it by another row's name, else the one of that name. nullptr when no row
/// did.
const Family* FamilyOf(const ModelConfig& config);

}  // namespace moescope::model::internal
