#pragma once

#include "absl/status/statusor.h"

#include "moescope/spec/analysis_spec.h"
#include "moescope/v1/analysis_spec.pb.h"

namespace moescope::codec::internal {

/// What an empty list in a message means.
enum class EmptyList {
  kDefault,  ///< In a request: the analysis' default.
  kEmpty,    ///< In a stored Spec: an empty list.
};

/// Reads a v1::AnalysisSpec or the message of one Spec by field names.
absl::StatusOr<spec::AnalysisSpec> ReadSpec(
    const google::protobuf::Message& message, EmptyList empty_list);

}  // namespace moescope::codec::internal
