#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/mutex.h"

namespace moescope {

/// A clock that stands still until it is told to advance. Threads: safe.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000))
      : now_(start) {}

  absl::Time Now() const override {
    const MutexLock lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    const MutexLock lock(mutex_);
    now_ += by;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moescope
