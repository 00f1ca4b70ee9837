#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace moescope {

/// One wrong field of a request. `field` is its path as the client wrote it
/// ("spec.layers[2]"), `description` gives the actual and the allowed values.
struct FieldViolation {
  std::string field;
  std::string description;
};

/// What a status says beyond code and message; travels as one payload of the
/// absl::Status and leaves the server as google.rpc details.
struct ErrorDetails {
  /// UPPER_SNAKE_CASE, stable: "MODEL_TOO_LARGE". Empty: none.
  std::string reason;
  std::vector<FieldViolation> fields;
  /// Facts behind the reason: {"limit", "1000000"}.
  std::map<std::string, std::string> metadata;
  /// When trying again makes sense.
  std::optional<absl::Duration> retry_after;
};

/// A status of `code` that carries `details`.
absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       const ErrorDetails& details);

/// A status about one field: message "<field>: <description>", reason
/// INVALID_FIELD unless `reason` is given.
absl::Status FieldError(absl::StatusCode code, absl::string_view field,
                        absl::string_view description,
                        absl::string_view reason = "INVALID_FIELD");

/// INVALID_ARGUMENT about one field.
absl::Status InvalidField(absl::string_view field,
                          absl::string_view description);

/// The details that `status` carries; empty ones when it carries none.
ErrorDetails GetErrorDetails(const absl::Status& status);

/// `status` with `prefix` and ": " before its message; code and payloads stay.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace moescope
