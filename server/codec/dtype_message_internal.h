#pragma once

#include "absl/status/statusor.h"

#include "moescope/spec/array.h"
#include "moescope/v1/array.pb.h"

namespace moescope::codec::internal {

v1::DataType DTypeToMessage(spec::DType dtype);
/// Errors: DATA_LOSS for a number that is no data type.
absl::StatusOr<spec::DType> DTypeFromMessage(v1::DataType dtype);

}  // namespace moescope::codec::internal
