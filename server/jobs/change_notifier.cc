#include "moescope/jobs/change_notifier.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace moescope {

std::int64_t ChangeNotifier::version() const {
  const MutexLock lock(mutex_);
  return version_;
}

void ChangeNotifier::Notify() {
  {
    const MutexLock lock(mutex_);
    ++version_;
  }
  changed_.NotifyAll();
}

std::int64_t ChangeNotifier::WaitFor(std::int64_t last_seen,
                                     absl::Duration timeout) const {
  // An endless wait would overflow the library's clock.
  const absl::Time end = absl::Now() + std::min(timeout, absl::Hours(24));
  const MutexLock lock(mutex_);
  while (version_ == last_seen) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) {
      break;
    }
    changed_.WaitFor(mutex_, left);
  }
  return version_;
}

}  // namespace moescope
