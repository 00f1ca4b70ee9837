#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/benchmarks/baseline_process.h"

#include "moescope/base/thread_pool.h"

namespace moescope::benchmarks {

/// What a row's own way may use.
struct Workbench {
  BaselineProcess& baseline;
  ThreadPool& pool;
};

/// Does the row's work once, on inputs that were prepared before.
using TimedWork = std::function<absl::Status()>;

/// One row of the table: the same question answered by both sides.
struct Comparison {
  std::string analysis;
  std::string shape;
  /// Least ratio theirs / ours that is asked for.
  double demand = 0;
  /// Summed; most rows have one.
  std::vector<BaselineRow> theirs;
  /// Takes their side minutes; left out unless asked for.
  bool is_long = false;
  std::function<absl::StatusOr<TimedWork>(const Workbench&)> prepare;
};

/// The rows for analyses of weights.
std::vector<Comparison> StaticComparisons();

/// What was measured for one row.
struct Measurement {
  std::string analysis;
  std::string shape;
  double theirs_seconds = 0;  ///< Median over the rounds.
  double ours_seconds = 0;    ///< Median over the rounds.
  double ratio = 0;           ///< Median of the rounds' ratios.
  double demand = 0;
};

/// Times both sides in turn: `rounds` times theirs once and ours right after
/// it; one round where theirs takes over ten seconds.
absl::StatusOr<Measurement> Compare(const Comparison& comparison,
                                    const Workbench& bench, int rounds);

std::string AsMarkdown(const std::vector<Measurement>& rows);
std::string AsJson(const std::vector<Measurement>& rows);

}  // namespace moescope::benchmarks
