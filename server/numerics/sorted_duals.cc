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

std::vector<std::int64_t> Ascending(const std::vector<double>& values) {
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const double x = values[static_cast<std::size_t>(a)];
    const double y = values[static_cast<std::size_t>(b)];
    return x < y || (x == y && a < b);
  });
  return order;
}

// Rows and columns that belong together if sorting solves the matrix.
struct Order {
  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> columns;
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
// one best column. `own` are the costs of rows and columns that belong together.
std::vector<std::int64_t> DualsOf(CostSource& costs, const Order& order,
                                  const std::vector<std::int32_t>& own) {
  const std::vector<std::int64_t> first_rows(order.rows.begin(),
                                             order.rows.end() - 1);
  const std::vector<std::int64_t> next_rows(order.rows.begin() + 1,
                                            order.rows.end());
  const std::vector<std::int64_t> first_columns(order.columns.begin(),
                                                order.columns.end() - 1);
  const std::vector<std::int64_t> next_columns(order.columns.begin() + 1,
                                               order.columns.end());
  const std::vector<std::int32_t> above =
      costs.Entries(first_rows, next_columns);
  const std::vector<std::int32_t> below =
      costs.Entries(next_rows, first_columns);
  std::vector<std::int64_t> duals(order.rows.size(), 0);
  for (std::size_t k = 0; k + 1 < order.rows.size(); ++k) {
    const std::int64_t step = std::int64_t{above[k]} - own[k] +
                              std::int64_t{own[k + 1]} - below[k];
    duals[static_cast<std::size_t>(order.columns[k + 1])] =
        duals[static_cast<std::size_t>(order.columns[k])] + step / 2;
  }
  return duals;
}

}  // namespace

absl::StatusOr<std::vector<std::int32_t>> SortedDuals(
    CostSource& costs, const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const Order order, FindOrder(costs, context));
  const std::vector<std::int32_t> own =
      costs.Entries(order.rows, order.columns);
  std::vector<std::int64_t> duals = DualsOf(costs, order, own);
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
    const std::int64_t reduced =
        own[k] - duals[static_cast<std::size_t>(order.columns[k])];
    best += reduced <= minima[static_cast<std::size_t>(order.rows[k])] + kSlack
                ? 1
                : 0;
  }
  if (static_cast<double>(best) >=
      kLeastShare * static_cast<double>(order.rows.size())) {
    narrow.assign(duals.begin(), duals.end());
  }
  return narrow;
}

}  // namespace moescope::numerics::internal
