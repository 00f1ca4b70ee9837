#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/numerics/assignment.h"

namespace moescope::numerics::internal {

/// An entry of the cost matrix that a search may use.
struct Arc {
  std::int32_t column = 0;
  std::int32_t cost = 0;
};

/// The arcs of each row, columns rising. Every row has (i, i): a complete
/// matching exists whatever was chosen beside it.
struct Core {
  std::vector<std::vector<Arc>> rows;
  /// Columns that no row, or rows that no column has among its best, whichever
  /// are fewer: many when all want the same.
  std::int64_t unwanted = 0;
};

/// Dual values of rows and columns.
struct Duals {
  std::vector<std::int64_t> row;
  std::vector<std::int64_t> column;
};

/// The entries of a row that the duals do not cover.
struct Violation {
  std::int64_t row = 0;
  std::vector<Arc> arcs;
};

/// What a solver asks of a cost matrix, wherever it lies: passes over all
/// entries, and single rows for the dense search.
/// Threads: one call at a time.
class CostSource {
 public:
  virtual ~CostSource() = default;
  virtual std::int64_t size() const = 0;

  /// The `count` least entries of each row by cost − column shift and of each
  /// column by cost − row shift. Shifts are below kMaxShift in magnitude.
  virtual absl::StatusOr<Core> ChooseCore(
      const std::vector<std::int32_t>& row_shift,
      const std::vector<std::int32_t>& column_shift, std::int64_t count,
      const RunContext& context) = 0;

  /// Rows with entries cost < row dual + column dual, rising, each with the at
  /// most `count` worst of these.
  virtual absl::StatusOr<std::vector<Violation>> FindViolations(
      const Duals& duals, std::int64_t count, const RunContext& context) = 0;

  /// Least cost − column dual of each row.
  virtual absl::StatusOr<std::vector<std::int64_t>> RowMinima(
      const std::vector<std::int64_t>& column_duals,
      const RunContext& context) = 0;

  /// costs · x, and costsᵀ · x.
  virtual absl::StatusOr<std::vector<double>> RowSums(
      const std::vector<double>& x, const RunContext& context) = 0;
  virtual absl::StatusOr<std::vector<double>> ColumnSums(
      const std::vector<double>& x, const RunContext& context) = 0;

  /// Column duals near the optimal ones, from entropic transport at falling
  /// temperature; a start, no bound.
  virtual absl::StatusOr<std::vector<std::int32_t>> TransportDuals(
      const RunContext& context) = 0;

  /// The costs of one row, valid until the next call.
  virtual const std::int32_t* Row(std::int64_t row) = 0;
};

/// A matrix in memory.
class MemoryCosts : public CostSource {
 public:
  explicit MemoryCosts(const SimilarityMatrix& matrix)
      : size_(matrix.size()), costs_(matrix.costs()) {}

  std::int64_t size() const override { return size_; }
  absl::StatusOr<Core> ChooseCore(const std::vector<std::int32_t>& row_shift,
                                  const std::vector<std::int32_t>& column_shift,
                                  std::int64_t count,
                                  const RunContext& context) override;
  absl::StatusOr<std::vector<Violation>> FindViolations(
      const Duals& duals, std::int64_t count,
      const RunContext& context) override;
  absl::StatusOr<std::vector<std::int64_t>> RowMinima(
      const std::vector<std::int64_t>& column_duals,
      const RunContext& context) override;
  absl::StatusOr<std::vector<double>> RowSums(
      const std::vector<double>& x, const RunContext& context) override;
  absl::StatusOr<std::vector<double>> ColumnSums(
      const std::vector<double>& x, const RunContext& context) override;
  absl::StatusOr<std::vector<std::int32_t>> TransportDuals(
      const RunContext& context) override;
  const std::int32_t* Row(std::int64_t row) override {
    return costs_ + row * size_;
  }

 private:
  const std::int64_t size_;
  const std::int32_t* const costs_;
};

}  // namespace moescope::numerics::internal
