#include "server/model/resident_matrix_internal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "server/model/torch_tensor_internal.h"

namespace moescope::model::internal {
namespace {

using numerics::ElementType;
using numerics::MatrixBlock;
using numerics::MatrixView;
using numerics::ScaleType;

// Elements that torch widens at a time: index, value and scale take twelve
// bytes each.
constexpr std::int64_t kStepElements = std::int64_t{1} << 22;

ResidentMatrix::Widening WideningFor(c10::Device device) {
  return device.is_cpu() ? ResidentMatrix::Widening::kHost
                         : ResidentMatrix::Widening::kTorch;
}

// Values of the codes 0 … count - 1 of a type, as WidenRows gives them. `bytes`
// hold the codes.
at::Tensor ValuesOf(ElementType type, const std::vector<std::uint8_t>& bytes,
                    std::int64_t count) {
  const float one = 1;
  MatrixView view = {bytes.data(), type, 1, count, count};
  view.scales.data = &one;
  view.scales.block_cols = count;
  at::Tensor values = at::empty({count}, at::kFloat);
  numerics::WidenRows(view, 0, 1, values.data_ptr<float>());
  return values;
}

at::Tensor Float8Values() {
  std::vector<std::uint8_t> bytes(256);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
  return ValuesOf(ElementType::kFloat8E4M3, bytes, 256);
}

at::Tensor Float4Values() {
  return ValuesOf(ElementType::kFloat4E2M1,
                  {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe}, 16);
}

// 2^(s - 127) of every byte s, read as scales of ones.
at::Tensor ExponentValues() {
  constexpr std::uint8_t kFloat8One = 0x38;
  const std::vector<std::uint8_t> ones(256, kFloat8One);
  std::vector<std::uint8_t> exponents(256);
  std::iota(exponents.begin(), exponents.end(), std::uint8_t{0});
  MatrixView view = {ones.data(), ElementType::kFloat8E4M3, 1, 256, 256};
  view.scales.data = exponents.data();
  view.scales.type = ScaleType::kExponent8;
  at::Tensor values = at::empty({256}, at::kFloat);
  numerics::WidenRows(view, 0, 1, values.data_ptr<float>());
  return values;
}

// values[codes], shaped as `codes`.
at::Tensor LookUp(const at::Tensor& values, const at::Tensor& codes) {
  return values.to(codes.device())
      .index_select(0, codes.to(at::kInt).reshape({-1}))
      .view(codes.sizes());
}

// Numbers of the blocks that elements [begin, begin + count) lie in.
at::Tensor BlockNumbers(std::int64_t begin, std::int64_t count,
                        std::int64_t offset, std::int64_t block,
                        c10::Device device) {
  const std::int64_t first = begin + offset;
  return at::arange(first, first + count,
                    at::TensorOptions().dtype(at::kLong).device(device))
      .div(block, "trunc");
}

at::ScalarType ScaleScalarType(ScaleType type) {
  switch (type) {
    case ScaleType::kFloat32:
      return at::kFloat;
    case ScaleType::kBFloat16:
      return at::kBFloat16;
    case ScaleType::kExponent8:
      break;
  }
  return at::kByte;
}

at::Tensor ResidentCodes(const MatrixView& view,
                         const std::shared_ptr<const void>& owner,
                         c10::Device device) {
  if (view.type == ElementType::kFloat8E4M3) {
    return MakeResident({view.data, at::kByte, view.rows, view.cols,
                         view.row_stride, view.col_stride},
                        owner, device);
  }
  TORCH_CHECK(view.col_stride == 1 && view.row_stride % 2 == 0,
              "rows of 4-bit values are not packed one after another");
  return MakeResident({view.data, at::kByte, view.rows, (view.cols + 1) / 2,
                       view.row_stride / 2, 1},
                      owner, device);
}

at::Tensor ResidentScales(const MatrixView& view,
                          const std::shared_ptr<const void>& owner,
                          c10::Device device) {
  const numerics::BlockScales& s = view.scales;
  const std::int64_t down =
      (view.rows + s.row_offset + s.block_rows - 1) / s.block_rows;
  const std::int64_t across =
      (view.cols + s.col_offset + s.block_cols - 1) / s.block_cols;
  return MakeResident({s.data, ScaleScalarType(s.type), down, across,
                       s.row_stride, s.col_stride},
                      owner, device);
}

}  // namespace

ResidentMatrix::ResidentMatrix(at::Tensor plain)
    : block_({0, plain.size(0), 0, plain.size(1)}), codes_(std::move(plain)) {}

ResidentMatrix::ResidentMatrix(const MatrixView& view,
                               std::shared_ptr<const void> owner,
                               c10::Device device)
    : ResidentMatrix(view, std::move(owner), device, WideningFor(device)) {}

ResidentMatrix::ResidentMatrix(const MatrixView& view,
                               std::shared_ptr<const void> owner,
                               c10::Device device, Widening widening)
    : view_(view), block_({0, view.rows, 0, view.cols}) {
  // What is dense on the host is left to torch too: its copy widens at once.
  if (widening == Widening::kHost && !numerics::IsDense(view)) {
    owner_ = std::move(owner);
    return;
  }
  view_.data = nullptr;
  if (!numerics::IsQuantised(view.type)) {
    codes_ = MakeResident(view, std::move(owner), device);
    return;
  }
  codes_ = ResidentCodes(view, owner, device);
  scales_ = ResidentScales(view, owner, device);
}

std::int64_t ResidentMatrix::bytes() const {
  if (!codes_.defined()) {
    return defined() ? numerics::StoredBytes(view_) : 0;
  }
  const std::size_t scales = scales_.defined() ? scales_.nbytes() : 0;
  return static_cast<std::int64_t>(codes_.nbytes() + scales);
}

ResidentMatrix ResidentMatrix::narrow(std::int64_t dimension,
                                      std::int64_t begin,
                                      std::int64_t size) const {
  ResidentMatrix part = *this;
  if (dimension == 0) {
    part.block_.row += begin;
    part.block_.rows = size;
  } else {
    part.block_.col += begin;
    part.block_.cols = size;
  }
  return part;
}

void ResidentMatrix::WidenTo(const at::Tensor& out) const {
  if (!codes_.defined()) {
    numerics::WidenBlock(view_, block_, out.data_ptr<float>(), out.stride(0));
  } else if (!scales_.defined()) {
    out.copy_(codes_.narrow(0, block_.row, block_.rows)
                  .narrow(1, block_.col, block_.cols));
  } else {
    WidenCodes(out);
  }
}

void ResidentMatrix::WidenCodes(const at::Tensor& out) const {
  const std::int64_t step = std::max<std::int64_t>(
      1, kStepElements / std::max<std::int64_t>(1, block_.cols));
  for (std::int64_t row = 0; row < block_.rows; row += step) {
    MatrixBlock block = block_;
    block.row += row;
    block.rows = std::min(step, block_.rows - row);
    at::Tensor rows = out.narrow(0, row, block.rows);
    at::mul_out(rows, Codes(block), Scales(block));
  }
}

// Values of the codes, without scales.
at::Tensor ResidentMatrix::Codes(const MatrixBlock& block) const {
  const at::Tensor rows = codes_.narrow(0, block.row, block.rows);
  if (view_.type == ElementType::kFloat8E4M3) {
    static const at::Tensor values = Float8Values();
    return LookUp(values, rows.narrow(1, block.col, block.cols));
  }
  static const at::Tensor values = Float4Values();
  const std::int64_t first = block.col / 2;
  const std::int64_t last = (block.col + block.cols + 1) / 2;
  const at::Tensor bytes = rows.narrow(1, first, last - first);
  const at::Tensor halves =
      at::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, 2)
          .flatten(1);
  return LookUp(values,
                halves.narrow(1, block.col - 2 * first, block.cols));
}

// The scale of every element.
at::Tensor ResidentMatrix::Scales(const MatrixBlock& block) const {
  const numerics::BlockScales& s = view_.scales;
  const c10::Device device = codes_.device();
  const at::Tensor scales =
      scales_
          .index_select(0, BlockNumbers(block.row, block.rows, s.row_offset,
                                        s.block_rows, device))
          .index_select(1, BlockNumbers(block.col, block.cols, s.col_offset,
                                        s.block_cols, device));
  if (s.type != ScaleType::kExponent8) {
    return scales.to(at::kFloat);
  }
  static const at::Tensor values = ExponentValues();
  return LookUp(values, scales);
}

}  // namespace moescope::model::internal
