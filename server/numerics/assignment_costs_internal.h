#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
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

  /// The costs at (rows[k], columns[k]).
  virtual std::vector<std::int32_t> Entries(
      const std::vector<std::int64_t>& rows,
      const std::vector<std::int64_t>& columns) = 0;

  /// The costs of one row, valid until the next call.
  virtual const std::int32_t* Row(std::int64_t row) = 0;

  /// Asked for before a search that goes from row to row.
  virtual absl::Status BringRowsNear(const RunContext& context) = 0;
};

/// The column duals in 32 bits, moved by `offset` into the middle of their
/// range; empty when they do not stay below kMaxShift.
struct NarrowDuals {
  std::vector<std::int32_t> column;
  std::int64_t offset = 0;
};
NarrowDuals Narrow(const std::vector<std::int64_t>& column);

/// What each column gets when every row gives out 1, to column j in proportion
/// to 2^(duals[j] − cost / temperature).
using TransportSums = std::function<absl::StatusOr<std::vector<float>>(
    const std::vector<float>& duals, double temperature)>;

/// CostSource::TransportDuals of `size` columns and costs that are `spread`
/// apart at most.
absl::StatusOr<std::vector<std::int32_t>> AnnealDuals(
    std::int64_t size, double spread, const TransportSums& transport_sums);

/// What choosing a core keeps from one matrix to the next: memory touched for the
/// first time is slow.
struct CoreMemory {
  std::vector<std::int32_t> minima;      // [kBoundGroups, size]
  std::vector<std::int64_t> column_keys;  // [size, 2 count]
};

/// Costs [size, size] and what is taken from them.
struct ShiftedCosts {
  std::int64_t size = 0;
  const std::int32_t* costs = nullptr;
  const std::vector<std::int32_t>& row_shift;
  const std::vector<std::int32_t>& column_shift;
};

/// CostSource::ChooseCore of a matrix in memory. Of equal entries rows take
/// those that come first from their own column on, columns the first ones.
/// Cost: two readings of the matrix. Threads: shared out through `pool`; the
/// same for any number.
absl::StatusOr<Core> ChooseCore(const ShiftedCosts& shifted, std::int64_t count,
                                ThreadPool& pool, const RunContext& context,
                                CoreMemory& memory);

/// A matrix in memory. Passes are shared out through `pool`; what they find is
/// the same for any number of threads.
class MemoryCosts : public CostSource {
 public:
  /// All must outlive it.
  MemoryCosts(const SimilarityMatrix& matrix, ThreadPool& pool,
              CoreMemory& memory)
      : size_(matrix.size()),
        costs_(matrix.costs()),
        pool_(pool),
        memory_(memory) {}

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
  std::vector<std::int32_t> Entries(
      const std::vector<std::int64_t>& rows,
      const std::vector<std::int64_t>& columns) override;
  const std::int32_t* Row(std::int64_t row) override {
    return costs_ + row * size_;
  }
  absl::Status BringRowsNear(const RunContext& /*context*/) override {
    return absl::OkStatus();
  }

 private:
  // Runs the body for every row, those of a block one after the other.
  absl::Status ForRowBlocks(
      const RunContext& context,
      const std::function<void(std::int64_t row, std::int64_t block)>& body);
  // Greatest entry − least entry.
  absl::StatusOr<double> Spread(const RunContext& context);
  // As TransportSums.
  absl::StatusOr<std::vector<float>> SumTransport(
      const std::vector<float>& duals, double temperature,
      const RunContext& context);

  const std::int64_t size_;
  const std::int32_t* const costs_;
  ThreadPool& pool_;
  CoreMemory& memory_;
};

}  // namespace moescope::numerics::internal
