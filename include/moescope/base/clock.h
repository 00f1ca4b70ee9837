#pragma once

#include "absl/time/time.h"

namespace moescope {

/// Where time comes from, so that a test can decide what time it is.
/// Threads: implementations are safe from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Wall-clock time; what is stored and shown.
  virtual absl::Time Now() const = 0;

  /// The process's real clock; lives for ever.
  static Clock& Real();
};

}  // namespace moescope
