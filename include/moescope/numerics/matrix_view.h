#pragma once

#include <cstdint>

namespace moescope::numerics {

/// Number formats that kernels read in place.
enum class ElementType { kBFloat16, kFloat16, kFloat32 };

/// Bytes of one element.
constexpr std::int64_t ElementSize(ElementType type) {
  return type == ElementType::kFloat32 ? 4 : 2;
}

/// A matrix somebody else owns, row after row; weights mapped from a file are
/// handed to kernels this way. `row_stride` counts elements and is at least
/// `cols`. `data` need not be aligned.
struct MatrixView {
  const void* data = nullptr;
  ElementType type = ElementType::kFloat32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;

  bool contiguous() const { return row_stride == cols; }
  std::int64_t size() const { return rows * cols; }
};

}  // namespace moescope::numerics
