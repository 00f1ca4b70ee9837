#include "moescope/numerics/widen_rows.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/row_groups_internal.h"

namespace moescope::numerics {
namespace {

using Byte = std::uint8_t;

// Where columns lie together in memory they are read this many at a time, this
// many rows of each, and turned round in the first-level cache.
constexpr std::int64_t kTileCols = 16;
constexpr std::int64_t kTileRows = 64;
// Elements brought together before they are widened.
constexpr std::int64_t kGathered = 256;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// 2^exponent, exponent ≥ -9.
constexpr float PowerOfTwo(int exponent) {
  float power = 1;
  for (; exponent > 0; --exponent) power *= 2;
  for (; exponent < 0; ++exponent) power /= 2;
  return power;
}

constexpr float Float8Value(int code) {
  const int exponent = (code >> 3) & 15;
  const int fraction = code & 7;
  if ((code & 0x7f) == 0x7f) return kNan;
  const float magnitude =
      exponent == 0 ? static_cast<float>(fraction) * PowerOfTwo(-9)
                    : static_cast<float>(8 + fraction) * PowerOfTwo(exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

constexpr std::array<float, 256> MakeFloat8Values() {
  std::array<float, 256> values = {};
  for (int code = 0; code < 256; ++code) {
    values[static_cast<std::size_t>(code)] = Float8Value(code);
  }
  return values;
}

constexpr std::array<float, 16> kFloat4Values = {
    0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
    -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};

constexpr std::array<float, 256> kFloat8Values = MakeFloat8Values();

struct Pair {
  float low = 0;
  float high = 0;
};

constexpr std::array<Pair, 256> MakeFloat4Pairs() {
  std::array<Pair, 256> pairs = {};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    pairs[byte].low = kFloat4Values[byte & 15];
    pairs[byte].high = kFloat4Values[byte >> 4];
  }
  return pairs;
}

constexpr std::array<Pair, 256> kFloat4Pairs = MakeFloat4Pairs();

const Byte* Bytes(const void* data) { return static_cast<const Byte*>(data); }

float FloatFromBits(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float ScaleAt(const BlockScales& scales, std::int64_t row, std::int64_t col) {
  const Byte* const at =
      Bytes(scales.data) +
      (row * scales.row_stride + col * scales.col_stride) *
          ScaleSize(scales.type);
  switch (scales.type) {
    case ScaleType::kFloat32: {
      float value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case ScaleType::kBFloat16: {
      std::uint16_t bits = 0;
      std::memcpy(&bits, at, sizeof bits);
      return FloatFromBits(std::uint32_t{bits} << 16);
    }
    case ScaleType::kExponent8:
      break;
  }
  // 2^-127 is subnormal.
  constexpr std::uint32_t kSmallest = 1U << 22;
  if (*at == 255) return kNan;
  return FloatFromBits(*at == 0 ? kSmallest : std::uint32_t{*at} << 23);
}

std::int64_t FirstElement(const MatrixView& view, std::int64_t row,
                          std::int64_t col) {
  return row * view.row_stride + col * view.col_stride;
}

// The functions that follow read `count` elements of one row.

template <typename T>
void CopyLine(const MatrixView& view, std::int64_t row, std::int64_t col,
              std::int64_t count, T* out) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  const Byte* const data =
      Bytes(view.data) + FirstElement(view, row, col) * kSize;
  if (view.col_stride == 1) {
    std::memcpy(out, data, static_cast<std::size_t>(count) * sizeof(T));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(out + i, data + i * view.col_stride * kSize, sizeof(T));
  }
}

// WidenRun without its padding.
void WidenExactly(const void* data, ElementType type, std::int64_t count,
                  float* out) {
  const std::int64_t whole = count / internal::kRunPadding * internal::kRunPadding;
  if (whole > 0) {
    internal::WidenRun(data, type, whole, 0, out);
  }
  if (whole < count) {
    float tail[internal::kRunPadding];
    internal::WidenRun(Bytes(data) + whole * ElementSize(type), type,
                       count - whole, 0, tail);
    std::copy_n(tail, count - whole, out + whole);
  }
}

template <typename T>
void WidenPlainLine(const MatrixView& view, std::int64_t row, std::int64_t col,
                    std::int64_t count, float* out) {
  if (view.col_stride == 1) {
    WidenExactly(Bytes(view.data) +
                     FirstElement(view, row, col) * ElementSize(view.type),
                 view.type, count, out);
    return;
  }
  T gathered[kGathered];
  for (std::int64_t i = 0; i < count; i += kGathered) {
    const std::int64_t n = std::min(kGathered, count - i);
    CopyLine(view, row, col + i, n, gathered);
    WidenExactly(gathered, view.type, n, out + i);
  }
}

struct Float8Codes {
  static void Widen(const Byte* data, std::int64_t first, std::int64_t stride,
                    std::int64_t count, float scale, float* out) {
    const Byte* const codes = data + first;
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = kFloat8Values[codes[i * stride]] * scale;
    }
  }
};

struct Float4Codes {
  static float Value(const Byte* data, std::int64_t element) {
    const int shift = (element & 1) != 0 ? 4 : 0;
    return kFloat4Values[static_cast<std::size_t>(data[element / 2] >> shift) &
                         15];
  }

  static void Widen(const Byte* data, std::int64_t first, std::int64_t stride,
                    std::int64_t count, float scale, float* out) {
    std::int64_t i = 0;
    if (stride == 1 && first % 2 == 0) {
      const Byte* const bytes = data + first / 2;
      for (; i + 1 < count; i += 2) {
        const Pair& pair = kFloat4Pairs[bytes[i / 2]];
        out[i] = pair.low * scale;
        out[i + 1] = pair.high * scale;
      }
    }
    for (; i < count; ++i) {
      out[i] = Value(data, first + i * stride) * scale;
    }
  }
};

template <typename Codes>
void WidenScaledLine(const MatrixView& view, std::int64_t row,
                     std::int64_t col, std::int64_t count, float* out) {
  const BlockScales& scales = view.scales;
  const std::int64_t scale_row = (row + scales.row_offset) / scales.block_rows;
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t in_grid = col + i + scales.col_offset;
    const std::int64_t scale_col = in_grid / scales.block_cols;
    const std::int64_t n = std::min(
        count - i, (scale_col + 1) * scales.block_cols - in_grid);
    Codes::Widen(Bytes(view.data), FirstElement(view, row, col + i),
                 view.col_stride, n, ScaleAt(scales, scale_row, scale_col),
                 out + i);
    i += n;
  }
}

void WidenLine(const MatrixView& view, std::int64_t row, std::int64_t col,
               std::int64_t count, float* out) {
  switch (view.type) {
    case ElementType::kBFloat16:
    case ElementType::kFloat16:
      return WidenPlainLine<std::uint16_t>(view, row, col, count, out);
    case ElementType::kFloat32:
      return WidenPlainLine<float>(view, row, col, count, out);
    case ElementType::kFloat8E4M3:
      return WidenScaledLine<Float8Codes>(view, row, col, count, out);
    case ElementType::kFloat4E2M1:
      return WidenScaledLine<Float4Codes>(view, row, col, count, out);
  }
}

// Writes `block` row after row; `line` reads along what lies together in
// memory: a row, or a column.
template <typename T, typename Line>
void LayOut(const MatrixView& view, const MatrixBlock& block, const Line& line,
            T* out, std::int64_t out_stride) {
  if (view.col_stride <= view.row_stride || block.rows == 1) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      line(view, block.row + r, block.col, block.cols, out + r * out_stride);
    }
    return;
  }
  const MatrixView columns = Transposed(view);
  T tile[kTileCols * kTileRows];
  for (std::int64_t r0 = 0; r0 < block.rows; r0 += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, block.rows - r0);
    for (std::int64_t c0 = 0; c0 < block.cols; c0 += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, block.cols - c0);
      for (std::int64_t c = 0; c < cols; ++c) {
        line(columns, block.col + c0 + c, block.row + r0, rows,
             tile + c * kTileRows);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        T* const to = out + (r0 + r) * out_stride + c0;
        for (std::int64_t c = 0; c < cols; ++c) {
          to[c] = tile[c * kTileRows + r];
        }
      }
    }
  }
}

template <typename T>
void CopyBlock(const MatrixView& view, const MatrixBlock& block,
               std::byte* out) {
  LayOut(view, block, &CopyLine<T>, reinterpret_cast<T*>(out), block.cols);
}

bool RunsIntoItself(const MatrixView& view) {
  if (view.size() == 0) return false;
  const std::int64_t row_length = (view.cols - 1) * view.col_stride + 1;
  const std::int64_t col_length = (view.rows - 1) * view.row_stride + 1;
  return view.row_stride < row_length && view.col_stride < col_length;
}

}  // namespace

absl::Status CheckView(absl::string_view field, const MatrixView& view) {
  const BlockScales& scales = view.scales;
  if (view.rows < 0 || view.cols < 0 || view.row_stride < 0 ||
      view.col_stride < 0 || RunsIntoItself(view)) {
    return InvalidField(
        field, absl::StrCat("is no matrix: [", view.rows, ", ", view.cols,
                            "] with rows ", view.row_stride, " and columns ",
                            view.col_stride, " elements apart"));
  }
  if (view.data == nullptr && view.size() > 0) {
    return InvalidField(field, "has no data");
  }
  if (view.size() > 0 && IsQuantised(view.type) != (scales.data != nullptr)) {
    return InvalidField(field, IsQuantised(view.type)
                                   ? "is quantised, but has no scales"
                                   : "has scales, but is not quantised");
  }
  if (scales.block_rows < 1 || scales.block_cols < 1 ||
      scales.row_offset < 0 || scales.col_offset < 0) {
    return InvalidField(
        field, absl::StrCat("has scales of blocks of [", scales.block_rows,
                            ", ", scales.block_cols, "] from [",
                            scales.row_offset, ", ", scales.col_offset,
                            "] on"));
  }
  return absl::OkStatus();
}

void WidenBlock(const MatrixView& view, const MatrixBlock& block, float* out,
                std::int64_t out_stride) {
  LayOut(view, block, &WidenLine, out, out_stride);
}

void WidenRows(const MatrixView& view, std::int64_t row_begin,
               std::int64_t rows, float* out) {
  WidenBlock(view, {row_begin, rows, 0, view.cols}, out, view.cols);
}

MatrixView BlockReader::Read(const MatrixView& view, const MatrixBlock& block) {
  MatrixView dense;
  dense.type = DenseType(view.type);
  dense.rows = block.rows;
  dense.cols = block.cols;
  if (IsDense(view)) {
    dense.data = Bytes(view.data) + FirstElement(view, block.row, block.col) *
                                        ElementSize(view.type);
    dense.row_stride = view.row_stride;
    return dense;
  }
  const auto bytes = static_cast<std::size_t>(block.rows * block.cols *
                                              ElementSize(dense.type));
  if (memory_.size() < bytes) {
    memory_.resize(bytes);
  }
  if (IsQuantised(view.type)) {
    WidenBlock(view, block, reinterpret_cast<float*>(memory_.data()),
               block.cols);
  } else if (ElementSize(view.type) == 2) {
    CopyBlock<std::uint16_t>(view, block, memory_.data());
  } else {
    CopyBlock<std::uint32_t>(view, block, memory_.data());
  }
  dense.data = memory_.data();
  dense.row_stride = block.cols;
  return dense;
}

absl::StatusOr<std::int64_t> CountNonfinite(const MatrixView& view,
                                            ThreadPool& pool,
                                            const RunContext& context) {
  constexpr std::int64_t kRows = 64;
  std::atomic<std::int64_t> count{0};
  MOESCOPE_RETURN_IF_ERROR(internal::ForRowGroups(
      view, kRows, pool, context,
      [&count](std::int64_t, absl::Span<const float> values) {
        count += std::count_if(values.begin(), values.end(),
                               [](float x) { return !std::isfinite(x); });
      }));
  return count.load();
}

}  // namespace moescope::numerics
