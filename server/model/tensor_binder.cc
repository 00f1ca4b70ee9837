#include "server/model/tensor_binder_internal.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {

namespace {

absl::Status CheckShape(const TensorEntry& tensor,
                        const std::vector<std::int64_t>& shape) {
  if (tensor.shape == shape) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "tensor ", QuoteName(tensor.name), ": shape is [",
      absl::StrJoin(tensor.shape, ", "), "], config.json implies [",
      absl::StrJoin(shape, ", "), "]"));
}

absl::Status Unsupported(const TensorEntry& tensor, absl::string_view allowed) {
  return absl::UnimplementedError(absl::StrCat(
      "tensor ", QuoteName(tensor.name), ": dtype ", DtypeName(tensor.dtype),
      " is not supported for ", allowed));
}

}  // namespace

bool TensorBinder::Has(absl::string_view name) const {
  return tensors_.find(absl::StrCat(prefix_, name)) != tensors_.end();
}

bool TensorBinder::HasUnder(absl::string_view prefix) const {
  const std::string whole = absl::StrCat(prefix_, prefix);
  const auto found = tensors_.lower_bound(whole);
  return found != tensors_.end() && absl::StartsWith(found->first, whole);
}

TensorBinder TensorBinder::Under(const std::string& prefix) const {
  TensorBinder binder = *this;
  binder.prefix_ += prefix;
  return binder;
}

absl::StatusOr<const TensorEntry*> TensorBinder::Find(
    const std::string& short_name) const {
  const std::string name = prefix_ + short_name;
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "tensor ", QuoteName(name), " of family ", config_.family,
        " is missing"));
  }
  return found->second;
}

absl::StatusOr<const TensorEntry*> TensorBinder::Require(
    const std::string& name, const std::vector<std::int64_t>& shape) const {
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* tensor, Find(name));
  MOESCOPE_RETURN_IF_ERROR(CheckShape(*tensor, shape));
  if (tensor->dtype != TensorDtype::kBF16 &&
      tensor->dtype != TensorDtype::kF16 &&
      tensor->dtype != TensorDtype::kF32) {
    return Unsupported(*tensor, "weights (BF16, F16, F32 are)");
  }
  return tensor;
}

absl::StatusOr<const TensorEntry*> TensorBinder::RequireBytes(
    const std::string& name, const std::vector<std::int64_t>& shape) const {
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* tensor, Find(name));
  MOESCOPE_RETURN_IF_ERROR(CheckShape(*tensor, shape));
  if (tensor->dtype != TensorDtype::kU8) {
    return Unsupported(*tensor, "packed weights (U8 is)");
  }
  return tensor;
}

absl::StatusOr<numerics::MatrixView> TensorBinder::RequireMatrix(
    const std::string& name, std::int64_t rows, std::int64_t cols) const {
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* tensor, Find(name));
  if (tensor->dtype == TensorDtype::kF8E4M3) {
    return BindFloat8(*tensor, rows, cols);
  }
  MOESCOPE_ASSIGN_OR_RETURN(tensor, Require(name, {rows, cols}));
  return ViewRows(*tensor, 0, rows, cols);
}

absl::StatusOr<numerics::MatrixView> TensorBinder::BindFloat8(
    const TensorEntry& tensor, std::int64_t rows, std::int64_t cols) const {
  if (config_.quantisation != Quantisation::kFloat8Blocks) {
    return Unsupported(tensor,
                       "weights without quantization_config.quant_method "
                       "\"fp8\" (BF16, F16, F32 are)");
  }
  MOESCOPE_RETURN_IF_ERROR(CheckShape(tensor, {rows, cols}));
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* scales,
                            Find(tensor.name + "_scale_inv"));
  const std::int64_t block_rows = config_.scale_block_rows;
  const std::int64_t block_cols = config_.scale_block_cols;
  const std::int64_t across = (cols + block_cols - 1) / block_cols;
  MOESCOPE_RETURN_IF_ERROR(
      CheckShape(*scales, {(rows + block_rows - 1) / block_rows, across}));
  numerics::MatrixView view;
  if (scales->dtype == TensorDtype::kF32) {
    view.scales.type = numerics::ScaleType::kFloat32;
  } else if (scales->dtype == TensorDtype::kBF16) {
    view.scales.type = numerics::ScaleType::kBFloat16;
  } else {
    return Unsupported(*scales, "scales (F32, BF16 are)");
  }
  view.data = tensor.data;
  view.type = numerics::ElementType::kFloat8E4M3;
  view.rows = rows;
  view.cols = cols;
  view.row_stride = cols;
  view.scales.data = scales->data;
  view.scales.block_rows = block_rows;
  view.scales.block_cols = block_cols;
  view.scales.row_stride = across;
  return view;
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
