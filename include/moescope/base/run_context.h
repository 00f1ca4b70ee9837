#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/mutex.h"

namespace moescope {

/// A flag that says "stop", with the reason, shared by whoever asks and
/// whoever works. Threads: safe.
class CancellationToken {
 public:
  /// First call wins; later ones keep the first reason. `reason` must not be
  /// OK.
  void Cancel(absl::Status reason);
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  /// OK until cancelled, then the reason.
  absl::Status status() const;

 private:
  std::atomic<bool> cancelled_{false};
  mutable Mutex mutex_;
  absl::Status reason_ ABSL_GUARDED_BY(mutex_);
};

/// How far work has come. `total` 0: not known yet.
struct Progress {
  std::string stage;
  std::int64_t done = 0;
  std::int64_t total = 0;
  /// What is counted: "tokens", "layers", "bytes".
  std::string unit;
};

/// What a piece of long work is handed: whether to go on, how many threads it
/// may use, and where to report. Long loops ask Check() at least every 50 ms.
/// Threads: safe, except for the setters, which are called before work starts.
class RunContext {
 public:
  using ProgressFunction = std::function<void(const Progress&)>;

  RunContext() : token_(std::make_shared<CancellationToken>()) {}
  explicit RunContext(std::shared_ptr<CancellationToken> token)
      : token_(std::move(token)) {}

  /// OK while the work is wanted; CANCELLED or DEADLINE_EXCEEDED otherwise.
  absl::Status Check() const;

  CancellationToken& token() const { return *token_; }
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }
  void set_progress_function(ProgressFunction function) {
    progress_function_ = std::move(function);
  }
  /// Reports progress; never blocks for long and never fails.
  void ReportProgress(const Progress& progress) const;

 private:
  std::shared_ptr<CancellationToken> token_;
  absl::Time deadline_ = absl::InfiniteFuture();
  ProgressFunction progress_function_;
};

}  // namespace moescope
