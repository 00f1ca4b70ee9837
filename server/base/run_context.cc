#include "moescope/base/run_context.h"

#include <utility>

#include "absl/time/clock.h"

namespace moescope {

void CancellationToken::Cancel(absl::Status reason) {
  const MutexLock lock(mutex_);
  if (!cancelled_.load(std::memory_order_relaxed)) {
    reason_ = std::move(reason);
    // Release: whoever sees the flag also sees the reason.
    cancelled_.store(true, std::memory_order_release);
  }
}

absl::Status CancellationToken::status() const {
  if (!cancelled()) {
    return absl::OkStatus();
  }
  const MutexLock lock(mutex_);
  return reason_;
}

absl::Status RunContext::Check() const {
  if (token_->cancelled()) {
    return token_->status();
  }
  if (deadline_ != absl::InfiniteFuture() && absl::Now() >= deadline_) {
    return absl::DeadlineExceededError("the deadline passed");
  }
  return absl::OkStatus();
}

void RunContext::ReportProgress(const Progress& progress) const {
  if (progress_function_) {
    progress_function_(progress);
  }
}

}  // namespace moescope
