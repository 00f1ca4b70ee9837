#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/export/result_document.h"

namespace moescope::client {

/// What numpy.load reads: a zip archive, members stored without compression,
/// "<array name>.npy" each (format version 1.0), and "__metadata__.npy", a 0-d
/// string holding the metadata as one JSON object. Members carry the date
/// 1980-01-01, so equal documents give equal bytes. Errors: RESOURCE_EXHAUSTED
/// for an archive of 4 GiB or of 65,535 members and more, which would need
/// zip64.
absl::StatusOr<std::string> NpzBytes(const ResultDocument& document);

}  // namespace moescope::client
