#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::numerics::internal {

inline std::int64_t NumRowGroups(const MatrixView& view, std::int64_t rows) {
  return (view.rows + rows - 1) / rows;
}

/// body(group, values) of each `rows` rows of `view` (the last group has what is
/// left), widened to fp32, shared out through `pool`.
/// Errors: CANCELLED, DEADLINE_EXCEEDED, looked at before each group.
template <class Body>
absl::Status ForRowGroups(const MatrixView& view, std::int64_t rows,
                          ThreadPool& pool, const RunContext& context,
                          const Body& body) {
  return pool.ParallelFor(
      NumRowGroups(view, rows), [&](std::int64_t group) {
        absl::Status wanted = context.Check();
        if (wanted.ok()) {
          const std::int64_t first = group * rows;
          const std::int64_t read = std::min(rows, view.rows - first);
          std::vector<float> values(static_cast<std::size_t>(read * view.cols));
          WidenRows(view, first, read, values.data());
          body(group, absl::MakeConstSpan(values));
        }
        return wanted;
      });
}

}  // namespace moescope::numerics::internal
