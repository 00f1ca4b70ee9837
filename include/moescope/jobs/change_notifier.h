#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

#include "moescope/base/mutex.h"

namespace moescope {

/// Tells threads of this process that something in the job store changed. A
/// hint that saves waiting: what changed is for the store to say, and a change
/// by another process is only seen by polling.
/// Threads: safe.
class ChangeNotifier {
 public:
  /// Rises by every Notify.
  std::int64_t version() const;
  void Notify();
  /// Returns the version as soon as it differs from `last_seen`, or after
  /// `timeout` (of real time). Ask for the version before looking at the store;
  /// then no change is missed.
  std::int64_t WaitFor(std::int64_t last_seen, absl::Duration timeout) const;

 private:
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::int64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moescope
