#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "moescope/numerics/instruction_set.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// fp32 to bf16, rounded towards zero; exact for values that bf16 has.
inline std::uint16_t ToBFloat16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

inline double FromBFloat16(std::uint16_t value) {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float wide = 0;
  std::memcpy(&wide, &bits, sizeof wide);
  return static_cast<double>(wide);
}

/// IEEE half precision, by its definition.
inline double FromFloat16(std::uint16_t value) {
  const int exponent = (value >> 10) & 31;
  const double fraction = (value & 1023) / 1024.0;
  const double sign = (value & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  }
  return exponent == 0 ? sign * std::ldexp(fraction, -14)
                       : sign * std::ldexp(1 + fraction, exponent - 15);
}

/// Matrices of one element type with their values in fp64. They lie `offset`
/// bytes past an aligned address, rows `padding` elements further apart than
/// they are long; what lies between is NaN.
class Matrices {
 public:
  Matrices(std::int64_t count, std::int64_t rows, std::int64_t cols,
           ElementType type, std::int64_t padding = 0, std::size_t offset = 0)
      : rows_(rows), cols_(cols), stride_(cols + padding), type_(type) {
    const auto size = static_cast<std::size_t>(ElementSize(type));
    const std::vector<std::uint8_t> filled(
        offset + static_cast<std::size_t>(rows * stride_) * size + 64, 0xff);
    bytes_.assign(static_cast<std::size_t>(count), filled);
    values_.assign(static_cast<std::size_t>(count),
                   std::vector<double>(static_cast<std::size_t>(rows * cols)));
    offset_ = offset;
  }

  /// Stores `value`, which the element type must have exactly.
  void Set(std::int64_t matrix, std::int64_t row, std::int64_t col,
           float value) {
    const auto m = static_cast<std::size_t>(matrix);
    values_[m][static_cast<std::size_t>(row * cols_ + col)] =
        static_cast<double>(value);
    const auto size = static_cast<std::size_t>(ElementSize(type_));
    std::uint8_t* const at =
        bytes_[m].data() + offset_ +
        static_cast<std::size_t>(row * stride_ + col) * size;
    const std::uint16_t narrow = type_ == ElementType::kBFloat16
                                     ? ToBFloat16(value)
                                     : SmallToFloat16(value);
    if (type_ == ElementType::kFloat32) {
      std::memcpy(at, &value, sizeof value);
    } else {
      std::memcpy(at, &narrow, sizeof narrow);
    }
  }

  /// Multiples of 1/64 with at most seven significant bits: all types have
  /// them.
  void FillRandom(unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> draw(-100, 100);
    for (std::size_t m = 0; m < bytes_.size(); ++m) {
      for (std::int64_t r = 0; r < rows_; ++r) {
        for (std::int64_t c = 0; c < cols_; ++c) {
          Set(static_cast<std::int64_t>(m), r, c,
              static_cast<float>(draw(random)) / 64);
        }
      }
    }
  }

  std::vector<MatrixView> views() const {
    std::vector<MatrixView> views;
    for (const std::vector<std::uint8_t>& bytes : bytes_) {
      views.push_back({bytes.data() + offset_, type_, rows_, cols_, stride_});
    }
    return views;
  }
  const std::vector<std::vector<double>>& values() const { return values_; }

 private:
  // Normal numbers of few bits only.
  static std::uint16_t SmallToFloat16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000;
    const std::uint32_t exponent = (bits >> 23) & 0xff;
    if (exponent == 0) {
      return static_cast<std::uint16_t>(sign);
    }
    if (exponent == 0xff) {
      return static_cast<std::uint16_t>(sign | 0x7c00 |
                                        ((bits & 0x7fffff) != 0 ? 1 : 0));
    }
    return static_cast<std::uint16_t>(sign | ((exponent - 112) << 10) |
                                      ((bits >> 13) & 0x3ff));
  }

  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  ElementType type_;
  std::size_t offset_ = 0;
  std::vector<std::vector<std::uint8_t>> bytes_;
  std::vector<std::vector<double>> values_;
};

}  // namespace moescope::numerics
