#pragma once

#include <cstddef>
#include <cstdint>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// What a text may make its reader build.
struct JsonLimits {
  std::size_t max_depth = 32;
  /// Of the tree, roughly: a member of 10 bytes of text can take 160. A
  /// tokenizer.json of 256,000 tokens and 580,000 merges as pairs, the most
  /// that is published, takes 160 MiB.
  std::int64_t max_tree_bytes = std::int64_t{192} << 20;
};

/// Reads `text` as one JSON object, no key twice in one object.
/// Errors: DATA_LOSS with the cause (and the byte, where it is a syntax error).
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text,
                                               const JsonLimits& limits = {});

}  // namespace moescope::model::internal
