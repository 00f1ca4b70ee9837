#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/model/config.h"
#include "moescope/model/safetensors.h"
#include "moescope/numerics/matrix_view.h"
#include "server/model/layer_tensors_internal.h"

namespace moescope::model::internal {

using TensorMap = std::map<std::string, const TensorEntry*, std::less<>>;

/// Hands a family the tensors it asks for, after looking at them.
/// Threads: const; `config` and `tensors` must outlive it.
class TensorBinder {
 public:
  TensorBinder(const ModelConfig& config, const TensorMap& tensors)
      : config_(config), tensors_(tensors) {}

  const ModelConfig& config() const { return config_; }
  bool Has(absl::string_view name) const;
  /// Whether any tensor's name begins with `prefix`.
  bool HasUnder(absl::string_view prefix) const;
  /// The same tensors, each asked for without the `prefix` of its name.
  TensorBinder Under(const std::string& prefix) const;

  /// Errors: FAILED_PRECONDITION (missing), DATA_LOSS (another shape than
  /// config.json implies), UNIMPLEMENTED (neither BF16, F16 nor F32); each
  /// names the tensor.
  absl::StatusOr<const TensorEntry*> Require(
      const std::string& name, const std::vector<std::int64_t>& shape) const;

  /// A tensor of U8. Errors: as Require.
  absl::StatusOr<const TensorEntry*> RequireBytes(
      const std::string& name, const std::vector<std::int64_t>& shape) const;

  /// Require, as a matrix of `rows` by `cols`; where config.quantisation is
  /// kFloat8Blocks also F8_E4M3, whose scales are the tensor `name` +
  /// "_scale_inv" (F32 or BF16), one per block, those at the edges cut off.
  absl::StatusOr<numerics::MatrixView> RequireMatrix(const std::string& name,
                                                     std::int64_t rows,
                                                     std::int64_t cols) const;

  /// The matrix `prefix`.weight and, if `has_bias`, the vector `prefix`.bias.
  absl::StatusOr<LinearTensors> RequireLinear(const std::string& prefix,
                                              std::int64_t rows,
                                              std::int64_t cols,
                                              bool has_bias) const;

 private:
  absl::StatusOr<const TensorEntry*> Find(const std::string& name) const;
  absl::StatusOr<numerics::MatrixView> BindFloat8(const TensorEntry& tensor,
                                                  std::int64_t rows,
                                                  std::int64_t cols) const;

  const ModelConfig& config_;
  const TensorMap& tensors_;
  std::string prefix_;
};

/// `rows` by `cols` elements of `tensor`, row after row, from element `offset`
/// on. The tensor is BF16, F16 or F32 and holds them.
numerics::MatrixView ViewRows(const TensorEntry& tensor, std::int64_t offset,
                              std::int64_t rows, std::int64_t cols);

}  // namespace moescope::model::internal
