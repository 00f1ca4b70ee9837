#include "server/model/tensor_binder_internal.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {

bool TensorBinder::Has(absl::string_view name) const {
  return tensors_.find(name) != tensors_.end();
}

absl::StatusOr<const TensorEntry*> TensorBinder::Require(
    const std::string& name, const std::vector<std::int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "tensor ", QuoteName(name), " of family ", config_.family,
        " is missing"));
  }
  const TensorEntry& tensor = *found->second;
  if (tensor.shape != shape) {
    return absl::DataLossError(absl::StrCat(
        "tensor ", QuoteName(name), ": shape is [",
        absl::StrJoin(tensor.shape, ", "), "], config.json implies [",
        absl::StrJoin(shape, ", "), "]"));
  }
  if (tensor.dtype != TensorDtype::kBF16 && tensor.dtype != TensorDtype::kF16 &&
      tensor.dtype != TensorDtype::kF32) {
    return absl::UnimplementedError(
        absl::StrCat("tensor ", QuoteName(name), ": dtype ",
                     DtypeName(tensor.dtype),
                     " is not supported for weights (BF16, F16, F32 are)"));
  }
  return &tensor;
}

absl::StatusOr<numerics::MatrixView> TensorBinder::RequireMatrix(
    const std::string& name, std::int64_t rows, std::int64_t cols) const {
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* tensor,
                            Require(name, {rows, cols}));
  return ViewRows(*tensor, 0, rows, cols);
}

absl::StatusOr<LinearTensors> TensorBinder::RequireLinear(
    const std::string& prefix, std::int64_t rows, std::int64_t cols,
    bool has_bias) const {
  LinearTensors linear;
  MOESCOPE_ASSIGN_OR_RETURN(linear.weight,
                            RequireMatrix(prefix + ".weight", rows, cols));
  if (has_bias) {
    MOESCOPE_ASSIGN_OR_RETURN(linear.bias, Require(prefix + ".bias", {rows}));
  }
  return linear;
}

numerics::MatrixView ViewRows(const TensorEntry& tensor, std::int64_t offset,
                              std::int64_t rows, std::int64_t cols) {
  numerics::MatrixView view;
  switch (tensor.dtype) {
    case TensorDtype::kBF16:
      view.type = numerics::ElementType::kBFloat16;
      break;
    case TensorDtype::kF16:
      view.type = numerics::ElementType::kFloat16;
      break;
    default:
      view.type = numerics::ElementType::kFloat32;
  }
  view.data = tensor.data + offset * numerics::ElementSize(view.type);
  view.rows = rows;
  view.cols = cols;
  view.row_stride = cols;
  return view;
}

}  // namespace moescope::model::internal
