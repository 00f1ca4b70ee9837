#include "server/numerics/sorted_duals_internal.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "moescope/base/status_macros.h"
#include "server/numerics/assignment_kernels_internal.h"

namespace moescope::numerics::internal {
namespace {

// Rows whose own column must be the best by these duals, up to roundings of
// entries (kSlack, in their units): a matrix with noise has next to none.
constexpr double kLeastShare = 0.9;
constexpr std::int64_t kSlack = 4;

// Without its mean: what is constant along rows or columns then drops out.
void Centre(std::vector<double>& values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) /
                      static_cast<double>(values.size());
  for (double& value : values) {
    value -= mean;
  }
}

std::vector<std::size_t> Ascending(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return values[a] < values[b] || (values[a] == values[b] && a < b);
  });
  return order;
}

// Rows and columns that belong together if sorting solves the matrix.
struct Order {
  std::vector<std::size_t> rows;
  std::vector<std::size_t> columns;
};

// By the leading pair of singular vectors: one step of the power method from
// the difference of two rows, which has the right direction where the centred
// matrix has rank 1.
absl::StatusOr<Order> FindOrder(CostSource& costs, const RunContext& context) {
  const auto n = static_cast<std::size_t>(costs.size());
  const std::int32_t* const first = costs.Row(0);
  std::vector<double> x(first, first + n);
  const std::int32_t* const last = costs.Row(costs.size() - 1);
  for (std::size_t j = 0; j < n; ++j) {
    x[j] -= static_cast<double>(last[j]);
  }
  Centre(x);
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<double> rows,
                            costs.RowSums(x, context));
  Centre(rows);
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<double> columns,
                            costs.ColumnSums(rows, context));
  Order order = {Ascending(rows), Ascending(columns)};
  // Costs rise with the product of both: the largest meets the smallest.
  std::reverse(order.columns.begin(), order.columns.end());
  return order;
}

// In the middle of what the neighbours in the order allow, so that each row has
// one best column.
std::vector<std::int64_t> DualsOf(CostSource& costs, const Order& order) {
  std::vector<std::int64_t> duals(order.rows.size(), 0);
  for (std::size_t k = 0; k + 1 < order.rows.size(); ++k) {
    const std::size_t j = order.columns[k];
    const std::size_t next = order.columns[k + 1];
    const std::int32_t* row = costs.Row(static_cast<std::int64_t>(order.rows[k]));
    std::int64_t step = std::int64_t{row[next]} - row[j];
    row = costs.Row(static_cast<std::int64_t>(order.rows[k + 1]));
    step += std::int64_t{row[next]} - row[j];
    duals[next] = duals[j] + step / 2;
  }
  return duals;
}

}  // namespace

absl::StatusOr<std::vector<std::int32_t>> SortedDuals(
    CostSource& costs, const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const Order order, FindOrder(costs, context));
  std::vector<std::int64_t> duals = DualsOf(costs, order);
  const auto [least, most] = std::minmax_element(duals.begin(), duals.end());
  const std::int64_t middle = *least + (*most - *least) / 2;
  std::vector<std::int32_t> narrow;
  if (*most - middle >= kMaxShift) {
    return narrow;
  }
  for (std::int64_t& dual : duals) {
    dual -= middle;
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> minima,
                            costs.RowMinima(duals, context));
  std::size_t best = 0;
  for (std::size_t k = 0; k < order.rows.size(); ++k) {
    const std::size_t i = order.rows[k];
    const std::size_t j = order.columns[k];
    const std::int64_t own =
        costs.Row(static_cast<std::int64_t>(i))[j] - duals[j];
    best += own <= minima[i] + kSlack ? 1 : 0;
  }
  if (static_cast<double>(best) >=
      kLeastShare * static_cast<double>(order.rows.size())) {
    narrow.assign(duals.begin(), duals.end());
  }
  return narrow;
}

}  // namespace moescope::numerics::internal
