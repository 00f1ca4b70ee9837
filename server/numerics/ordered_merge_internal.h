#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/mutex.h"

namespace moescope::numerics::internal {

/// Merges what numbered tasks leave in the order of their numbers, whichever ends
/// first, beside the tasks that still run. So sums have the same bits for any
/// number of threads, and none waits for the others at a barrier.
/// Memory: `slots` parts.
/// Threads: safe. Who is `slots` ahead waits, so tasks must be begun in order (as
/// ThreadPool::ParallelFor does): the next part to merge is then in the hands of
/// a thread that does not wait.
template <class Part>
class OrderedMerge {
 public:
  /// Of tasks 0, 1, …; `slots` ≥ 1. `merge` is called by one thread at a time
  /// and must not throw.
  OrderedMerge(std::int64_t slots, std::function<void(const Part&)> merge)
      : merge_(std::move(merge)), slots_(static_cast<std::size_t>(slots)) {}

  /// Task `number` fills its part, as an earlier one left it, by fill(Part&).
  /// Errors: those of `fill` (what it throws as by CatchExceptions), after which
  /// later tasks that wait give up, too; CANCELLED for these.
  absl::Status Run(std::int64_t number,
                   const std::function<absl::Status(Part&)>& fill) {
    if (!WaitForTurn(number)) {
      return absl::CancelledError("an earlier part was given up");
    }
    Slot& slot = slots_[static_cast<std::size_t>(number) % slots_.size()];
    absl::Status status = CatchExceptions([&] { return fill(slot.part); });
    if (status.ok()) {
      Put(slot);
    } else {
      const MutexLock lock(mutex_);
      given_up_ = std::min(given_up_, number);
      changed_.NotifyAll();
    }
    return status;
  }

 private:
  struct Slot {
    Part part;
    bool filled = false;
  };

  bool WaitForTurn(std::int64_t number) {
    const MutexLock lock(mutex_);
    while (number < given_up_ &&
           number - next_ >= static_cast<std::int64_t>(slots_.size())) {
      changed_.Wait(mutex_);
    }
    return number < given_up_;
  }

  // Merges the part, and those that have waited for it, unless another thread is
  // at it: that one goes on with them.
  void Put(Slot& slot) {
    const MutexLock lock(mutex_);
    slot.filled = true;
    if (merging_) {
      return;
    }
    merging_ = true;
    while (true) {
      Slot& next = slots_[static_cast<std::size_t>(next_) % slots_.size()];
      if (!next.filled) {
        break;
      }
      mutex_.Unlock();
      merge_(next.part);
      mutex_.Lock();
      next.filled = false;
      ++next_;
      changed_.NotifyAll();
    }
    merging_ = false;
  }

  const std::function<void(const Part&)> merge_;
  Mutex mutex_;
  CondVar changed_;
  // The lowest task that failed.
  std::int64_t given_up_ ABSL_GUARDED_BY(mutex_) =
      std::numeric_limits<std::int64_t>::max();
  bool merging_ ABSL_GUARDED_BY(mutex_) = false;
  std::int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Slot> slots_;
};

}  // namespace moescope::numerics::internal
