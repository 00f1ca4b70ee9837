#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/results/result_store.h"

namespace moescope::internal {

/// A saved state as it lies on disk: "MOESTATE", u32 version, u32 CRC-32C of
/// all that follows and the key, i64 records, bytes.
std::string EncodeState(absl::string_view key, std::int64_t records,
                        absl::string_view bytes);

/// Errors: DATA_LOSS unless `file` is a state of `key`.
absl::StatusOr<SavedState> DecodeState(absl::string_view key,
                                       std::int64_t fence,
                                       absl::string_view file);

}  // namespace moescope::internal
