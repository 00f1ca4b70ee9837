#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/mutex.h"
#include "moescope/base/run_context.h"
#include "moescope/spec/array.h"

namespace moescope::analysis::internal {

/// Emits chunks that are made side by side in their order, whichever is ready
/// first, and reports progress with each.
/// Memory: at most `ahead` chunks wait for an earlier one, and one in each
/// thread.
/// Threads: safe. Who is too far ahead waits for earlier chunks, so numbers must
/// be begun in order (as ThreadPool::ParallelFor hands them out): the next
/// chunk to emit is then always in the hands of a thread that does not wait,
/// whoever else uses the pool.
class OrderedEmitter {
 public:
  /// Chunks from number `first` on; all must outlive it. `ahead` ≥ 1.
  OrderedEmitter(std::int64_t first, std::int64_t ahead, ChunkSink& sink,
                 Progress progress, const RunContext& context);

  /// Makes chunk `number` and emits it and those that have waited for it.
  /// Errors: those of `make` (what it throws as by CatchExceptions) and of the
  /// sink, after which later chunks give up, too (CANCELLED), and earlier ones
  /// are still emitted; CANCELLED, DEADLINE_EXCEEDED, also while it waits.
  absl::Status Emit(std::int64_t number,
                    const std::function<absl::StatusOr<spec::Chunk>()>& make);

 private:
  absl::Status Put(std::int64_t number, spec::Chunk chunk)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WaitForTurn(std::int64_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::int64_t ahead_;
  ChunkSink& sink_;
  const RunContext& context_;
  Mutex mutex_;
  CondVar changed_;
  // The lowest chunk that will not come.
  std::int64_t given_up_ ABSL_GUARDED_BY(mutex_) =
      std::numeric_limits<std::int64_t>::max();
  std::int64_t next_ ABSL_GUARDED_BY(mutex_);
  Progress progress_ ABSL_GUARDED_BY(mutex_);
  std::map<std::int64_t, spec::Chunk> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moescope::analysis::internal
