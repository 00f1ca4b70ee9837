#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"

#include "moescope/base/mutex.h"

namespace moescope {

/// Things to work with, kept from one use to the next, as many as were ever in
/// use together: memory touched for the first time is slow. What is not given
/// back, as after an exception, is freed. Threads: safe.
template <class T>
class FreeList {
 public:
  std::unique_ptr<T> Take() {
    const MutexLock lock(mutex_);
    if (free_.empty()) {
      return std::make_unique<T>();
    }
    std::unique_ptr<T> taken = std::move(free_.back());
    free_.pop_back();
    return taken;
  }
  void Return(std::unique_ptr<T> taken) {
    const MutexLock lock(mutex_);
    free_.push_back(std::move(taken));
  }

 private:
  Mutex mutex_;
  std::vector<std::unique_ptr<T>> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moescope
