#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace moescope {

/// A fixed set of threads that share loops. What a loop computes must not
/// depend on which thread runs which index; then results are the same for any
/// number of threads.
/// Threads: ParallelFor may be called from several threads at once, and from
/// inside a loop body (the inner loop then runs on the calling thread's own
/// initiative and never deadlocks).
class ThreadPool {
 public:
  /// `num_threads` ≥ 1 counts the calling thread: 1 starts none.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  /// Runs body(0) … body(n-1), each once, and returns when all are done. After
  /// the first failure no further index is started; the failure of the lowest
  /// index that failed is returned.
  absl::Status ParallelFor(std::int64_t n,
                           const std::function<absl::Status(std::int64_t)>& body);

 private:
  struct State;
  const int num_threads_;
  std::unique_ptr<State> state_;
};

}  // namespace moescope
