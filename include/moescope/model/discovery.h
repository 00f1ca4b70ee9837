#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model {

/// A model folder found under the model root.
struct ModelFolder {
  /// "tiny-mixtral", or "org/name" in a Hugging Face cache.
  std::string name;
  /// Absolute path of the folder that holds config.json.
  std::string path;
};

/// All model folders under `model_root`, by name: every folder (to a bounded
/// depth) with a config.json, and for a Hugging Face cache
/// (`models--org--name/snapshots/<revision>`, the revision of refs/main, else
/// the newest) one entry `org/name`. Unreadable folders are left out.
/// Errors: NOT_FOUND when `model_root` is no folder.
absl::StatusOr<std::vector<ModelFolder>> DiscoverModels(
    const std::string& model_root);

/// The folder of model `name`, or of the relative path `name`. The result never
/// lies outside `model_root` (symlinks resolved; links inside a Hugging Face
/// cache may lead to its blobs).
/// Errors: INVALID_ARGUMENT field "model" for an empty or absolute name, "..",
/// NUL, '%' or a backslash; NOT_FOUND otherwise (lists up to ten known names).
absl::StatusOr<ModelFolder> ResolveModel(const std::string& model_root,
                                         absl::string_view name);

}  // namespace moescope::model
