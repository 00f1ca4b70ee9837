#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moescope::benchmarks {

/// One row of paper_timing.py.
struct BaselineRow {
  std::string analysis;
  nlohmann::json shape;
};

/// paper_timing.py as a child process that times one row at a time on request.
/// It inherits the environment, and with it the BLAS kernels chosen here.
/// Threads: not safe.
class BaselineProcess {
 public:
  /// Errors: INTERNAL (cannot be started), FAILED_PRECONDITION (it ended: one
  /// of its packages is missing; its message stands on stderr).
  static absl::StatusOr<std::unique_ptr<BaselineProcess>> Start(
      const std::string& python, const std::string& script, int threads);
  ~BaselineProcess();
  BaselineProcess(const BaselineProcess&) = delete;
  BaselineProcess& operator=(const BaselineProcess&) = delete;

  /// Seconds of one unit of the row. Its inputs are prepared outside the clock.
  /// Errors: NOT_FOUND (no such row), INTERNAL.
  absl::StatusOr<double> Seconds(const BaselineRow& row);
  /// The similarity matrix [F, F] of an assignment row.
  absl::StatusOr<std::vector<float>> Similarity(const BaselineRow& row);

 private:
  BaselineProcess() = default;
  absl::StatusOr<nlohmann::json> Ask(const nlohmann::json& request);
  absl::StatusOr<std::int64_t> IndexOf(const BaselineRow& row) const;

  pid_t pid_ = -1;
  int to_child_ = -1;
  int from_child_ = -1;
  std::string pending_;
  std::vector<BaselineRow> rows_;
};

}  // namespace moescope::benchmarks
