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
  /// Absolute path of the folder that holds config.json, or the weights alone.
  std::string path;
  /// Without one it can't be resolved or opened.
  bool has_config = true;
};

/// All model folders under `model_root`, by name: every folder (to a depth of
/// 4) with a config.json that lies in no other such folder (gpt-oss has one in
/// its "original"), and for a Hugging Face cache
/// (`models--org--name/snapshots/<revision>`, the revision of refs/main, else
/// the newest) one entry `org/name`. Also folders without a config.json that
/// hold weights (model*.safetensors, pytorch_model*.bin or an index), where the
/// search comes by: above the last depth, neither the root nor in a cache. Left
/// out: unreadable and hidden folders,
/// whatever leads out of `model_root` through a link, and what lies beyond the
/// first 100,000 entries or 4,096 models. A root that has a config.json itself
/// is listed, alone, by its own last path component.
/// Errors: NOT_FOUND when `model_root` is no folder.
absl::StatusOr<std::vector<ModelFolder>> DiscoverModels(
    const std::string& model_root);

/// The folder of model `name`, or of the relative path `name`. The result never
/// lies outside `model_root` (symlinks resolved; links inside a Hugging Face
/// cache may lead to its blobs).
/// Errors, all of field "model": INVALID_ARGUMENT for an empty or absolute name,
/// an empty component, ".", "..", a control character, '%' or a backslash;
/// FAILED_PRECONDITION MODEL_CONFIG_MISSING for a folder without config.json;
/// NOT_FOUND MODEL_NOT_FOUND otherwise (lists up to ten known names).
absl::StatusOr<ModelFolder> ResolveModel(const std::string& model_root,
                                         absl::string_view name);

}  // namespace moescope::model
