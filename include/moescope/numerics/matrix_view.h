#pragma once

#include <cstdint>

namespace moescope::numerics {

/// Number formats of matrices. The first three are plain: kernels read them in
/// place. The others are quantised: an element is a code times the scale of the
/// block that it lies in.
enum class ElementType {
  kBFloat16,
  kFloat16,
  kFloat32,
  /// Sign, 4 bits of exponent (bias 7), 3 of fraction; no infinities, 0x7f and
  /// 0xff are NaN ("e4m3fn", OCP 8-bit floating point specification 1.0).
  kFloat8E4M3,
  /// Two in a byte, the low half first: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their
  /// negatives (OCP Microscaling formats 1.0, section 5.3.3).
  kFloat4E2M1,
};

constexpr bool IsQuantised(ElementType type) {
  return type == ElementType::kFloat8E4M3 || type == ElementType::kFloat4E2M1;
}

/// Bits of one element, without its share of a scale.
constexpr std::int64_t ElementBits(ElementType type) {
  switch (type) {
    case ElementType::kBFloat16:
    case ElementType::kFloat16:
      return 16;
    case ElementType::kFloat32:
      return 32;
    case ElementType::kFloat8E4M3:
      return 8;
    case ElementType::kFloat4E2M1:
      return 4;
  }
  return 0;
}

/// Bytes of one element of a type of whole bytes: all but kFloat4E2M1.
constexpr std::int64_t ElementSize(ElementType type) {
  return ElementBits(type) / 8;
}

/// Number formats of scales.
enum class ScaleType {
  kFloat32,
  kBFloat16,
  /// One byte s that stands for 2^(s - 127): 0 for 2^-127, 255 for NaN (E8M0,
  /// OCP Microscaling formats 1.0, section 5.4.1).
  kExponent8,
};

constexpr std::int64_t ScaleSize(ScaleType type) {
  return type == ScaleType::kFloat32 ? 4 : type == ScaleType::kBFloat16 ? 2 : 1;
}

/// Factors of a quantised matrix, one per block of `block_rows` by `block_cols`
/// elements; blocks at the edges may be cut off. Element (r, c) has the factor
/// at ((r + row_offset) / block_rows) · row_stride +
/// ((c + col_offset) / block_cols) · col_stride.
struct BlockScales {
  const void* data = nullptr;  ///< nullptr: the matrix is not quantised.
  ScaleType type = ScaleType::kFloat32;
  std::int64_t block_rows = 1;
  std::int64_t block_cols = 1;
  std::int64_t row_stride = 0;  ///< In scales.
  std::int64_t col_stride = 1;
  /// Where the matrix begins in its first block (it is a part of another one).
  std::int64_t row_offset = 0;
  std::int64_t col_offset = 0;
};

/// A matrix somebody else owns; weights mapped from a file are handed to
/// kernels this way. Element (r, c) is r · row_stride + c · col_stride elements
/// after `data`, which need not be aligned (of kFloat4E2M1: is the low half of
/// a byte). What is not IsDense is read through moescope/numerics/widen_rows.h.
struct MatrixView {
  const void* data = nullptr;
  ElementType type = ElementType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
  BlockScales scales = {};

  constexpr bool contiguous() const {
    return col_stride == 1 && row_stride == cols;
  }
  constexpr std::int64_t size() const { return rows * cols; }
};

/// Whether kernels read `view` in place: plain numbers, those of a row one
/// after another.
constexpr bool IsDense(const MatrixView& view) {
  return !IsQuantised(view.type) && view.col_stride == 1;
}

/// The same memory with rows and columns exchanged.
constexpr MatrixView Transposed(const MatrixView& view) {
  MatrixView other = view;
  other.rows = view.cols;
  other.cols = view.rows;
  other.row_stride = view.col_stride;
  other.col_stride = view.row_stride;
  other.scales.block_rows = view.scales.block_cols;
  other.scales.block_cols = view.scales.block_rows;
  other.scales.row_stride = view.scales.col_stride;
  other.scales.col_stride = view.scales.row_stride;
  other.scales.row_offset = view.scales.col_offset;
  other.scales.col_offset = view.scales.row_offset;
  return other;
}

/// Bytes of the elements and of the scales that they need.
constexpr std::int64_t StoredBytes(const MatrixView& view) {
  const BlockScales& s = view.scales;
  const std::int64_t elements = (view.size() * ElementBits(view.type) + 7) / 8;
  if (s.data == nullptr || view.size() == 0) {
    return elements;
  }
  const std::int64_t down =
      (view.rows + s.row_offset + s.block_rows - 1) / s.block_rows;
  const std::int64_t across =
      (view.cols + s.col_offset + s.block_cols - 1) / s.block_cols;
  return elements + down * across * ScaleSize(s.type);
}

}  // namespace moescope::numerics
