#include "server/analysis/ordered_emitter_internal.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/status_macros.h"

namespace moescope::analysis::internal {
namespace {

// A cancellation wakes nobody by itself: who waits looks this often.
constexpr absl::Duration kBetweenChecks = absl::Milliseconds(20);

}  // namespace

OrderedEmitter::OrderedEmitter(std::int64_t first, std::int64_t ahead,
                               ChunkSink& sink, Progress progress,
                               const RunContext& context)
    : ahead_(ahead),
      sink_(sink),
      context_(context),
      next_(first),
      progress_(std::move(progress)) {}

absl::Status OrderedEmitter::Emit(
    std::int64_t number,
    const std::function<absl::StatusOr<spec::Chunk>()>& make) {
  absl::StatusOr<spec::Chunk> made = CatchExceptionsOf<spec::Chunk>(make);
  const MutexLock lock(mutex_);
  const bool is_made = made.ok();
  absl::Status put = is_made ? Put(number, *std::move(made)) : made.status();
  if (!put.ok()) {
    // What was made can have failed only from the next chunk on.
    given_up_ = std::min(given_up_, is_made ? next_ : number);
  }
  changed_.NotifyAll();
  return put;
}

absl::Status OrderedEmitter::Put(std::int64_t number, spec::Chunk chunk) {
  MOESCOPE_RETURN_IF_ERROR(WaitForTurn(number));
  waiting_.emplace(number, std::move(chunk));
  while (!waiting_.empty() && waiting_.begin()->first == next_) {
    spec::Chunk ready = std::move(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
    MOESCOPE_RETURN_IF_ERROR(sink_.Emit(std::move(ready)));
    // A chunk that waited is not emitted any more once the work is unwanted.
    MOESCOPE_RETURN_IF_ERROR(context_.Check());
    ++next_;
    progress_.done = next_;
    context_.ReportProgress(progress_);
  }
  return absl::OkStatus();
}

absl::Status OrderedEmitter::WaitForTurn(std::int64_t number) {
  while (number > next_ + ahead_ && number <= given_up_) {
    changed_.WaitFor(mutex_, kBetweenChecks);
    MOESCOPE_RETURN_IF_ERROR(context_.Check());
  }
  return number > given_up_ ? absl::CancelledError("an earlier chunk failed")
                            : absl::OkStatus();
}

}  // namespace moescope::analysis::internal
