#include "moescope/base/draining.h"

#include "moescope/base/error.h"

namespace moescope {

absl::Status DrainingError() {
  ErrorDetails details;
  details.reason = "DRAINING";
  // Another server takes its place, or it starts again.
  details.retry_after = absl::Seconds(5);
  return MakeError(absl::StatusCode::kUnavailable,
                   "the server is going down; go on when it is back", details);
}

}  // namespace moescope
