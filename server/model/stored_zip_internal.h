#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// Contents of the entries of a zip file whose entries are all stored, by
/// name; views of `bytes`. Zip64 is understood. Checksums are not looked at.
/// Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
/// Errors: DATA_LOSS naming entry or offset and cause (records or data outside
/// the file or running into each other, compressed or encrypted entries, names
/// that stand twice, headers that contradict each other).
absl::StatusOr<std::map<std::string, absl::string_view>> ReadStoredZip(
    absl::string_view bytes);

}  // namespace moescope::model::internal
