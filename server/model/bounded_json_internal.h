#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// Reads `text` as one JSON object: at most 32 levels deep, 4 million values,
/// no key twice in one object.
/// Errors: DATA_LOSS with the cause (and the byte, where it is a syntax error).
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text);

}  // namespace moescope::model::internal
