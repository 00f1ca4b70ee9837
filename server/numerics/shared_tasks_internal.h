#pragma once

#include <c10/core/GradMode.h>

#include <cstdint>

#include "absl/status/status.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"

namespace moescope::numerics::internal {

/// body(0) … body(n − 1), with torch's operations in them, shared out through
/// `pool`. Errors: CANCELLED, DEADLINE_EXCEEDED, looked at before each; what a
/// body throws, as ThreadPool::ParallelFor.
template <class Body>
absl::Status RunTasks(ThreadPool& pool, const RunContext& context,
                      std::int64_t n, const Body& body) {
  return pool.ParallelFor(n, [&](std::int64_t i) {
    absl::Status wanted = context.Check();
    if (wanted.ok()) {
      const c10::NoGradGuard no_grad;  // Of this thread.
      body(i);
    }
    return wanted;
  });
}

}  // namespace moescope::numerics::internal
