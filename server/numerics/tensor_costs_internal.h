#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "server/numerics/assignment_costs_internal.h"

namespace moescope::numerics::internal {

/// Entries of a matrix that one operation of a pass takes up: enough to fill a
/// GPU, little beside a large matrix.
inline constexpr std::int64_t kTensorBlockEntries = std::int64_t{1} << 22;

/// A matrix on any device of torch's. ChooseCore, FindViolations and RowMinima
/// find what MemoryCosts does; sums and transport differ from it in their
/// roundings.
/// Cost: a pass is a few operations per block and waits for the device once;
/// of ChooseCore and FindViolations, whose passes are longer, once per block.
/// BringRowsNear copies the matrix to the host.
/// Memory: on the device, beside the matrix, 16 bytes per entry of a block and
/// 64 F; on the host 1100 F, as for a matrix in memory, and 4 F² once rows are
/// near.
/// Errors: CANCELLED, DEADLINE_EXCEEDED, looked at before each block; what torch
/// throws passes through.
/// Threads: one call at a time.
class TensorCosts : public CostSource {
 public:
  /// `costs` int32 [F, F], contiguous; a block has whole rows (or columns), at
  /// least one, and no more than `block_entries` entries otherwise.
  explicit TensorCosts(at::Tensor costs,
                       std::int64_t block_entries = kTensorBlockEntries);

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
  const std::int32_t* Row(std::int64_t row) override;
  absl::Status BringRowsNear(const RunContext& context) override;

 private:
  // Calls the body for the blocks [first, first + count) of `lines` rows or
  // columns, in their order.
  absl::Status ForBlocks(
      std::int64_t lines, const RunContext& context,
      const std::function<void(std::int64_t first, std::int64_t count)>& body)
      const;
  at::Tensor Rows(std::int64_t first, std::int64_t count) const {
    return costs_.narrow(0, first, count);
  }
  // Keys of the `count` best of each row, or of each column; see the source.
  absl::StatusOr<std::vector<std::int64_t>> BestOfRows(
      const std::vector<std::int32_t>& column_shift, std::int64_t count,
      const RunContext& context) const;
  absl::StatusOr<std::vector<std::int64_t>> BestOfColumns(
      const std::vector<std::int32_t>& row_shift, std::int64_t count,
      const RunContext& context) const;
  // Appends what is to be said of these rows.
  void AppendViolations(const std::vector<std::int64_t>& rows,
                        const Duals& duals, std::int64_t count,
                        std::vector<Violation>& violations) const;
  absl::StatusOr<double> Spread(const RunContext& context) const;
  absl::StatusOr<std::vector<float>> SumTransport(
      const std::vector<float>& duals, double temperature,
      const RunContext& context) const;

  const at::Tensor costs_;
  const std::int64_t size_;
  const std::int64_t block_lines_;
  // On the host: the row asked for last, and all once they are near.
  at::Tensor row_;
  at::Tensor near_;
};

}  // namespace moescope::numerics::internal
