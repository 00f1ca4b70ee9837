#include "moescope/jobs/job.h"

namespace moescope {

absl::string_view JobStateName(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "queued";
    case JobState::kRunning:
      return "running";
    case JobState::kSucceeded:
      return "succeeded";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "cancelled";
    case JobState::kExpired:
      return "expired";
  }
  return "unknown";
}

absl::string_view PriorityName(Priority priority) {
  return priority == Priority::kInteractive ? "interactive" : "batch";
}

bool IsFinished(JobState state) {
  return state != JobState::kQueued && state != JobState::kRunning;
}

}  // namespace moescope
