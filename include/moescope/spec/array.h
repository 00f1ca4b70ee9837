#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moescope::spec {

/// Number formats of results: matrices float32; scalars and statistics float64;
/// counts and ids int64.
enum class DType { kFloat32, kFloat64, kInt64 };

std::int64_t DTypeSize(DType dtype);
/// "float32", "float64", "int64".
absl::string_view DTypeName(DType dtype);
absl::StatusOr<DType> ParseDType(absl::string_view name);

/// A named array: row-major, little-endian, dense. A scalar has no dimensions.
struct Array {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<std::int64_t> shape;
  std::string bytes;

  /// Product of the shape, which Validate accepts.
  std::int64_t num_elements() const;
  /// INVALID_ARGUMENT when bytes do not fit dtype and shape.
  absl::Status Validate() const;
};

/// Copies values into an Array. The number of values must fit the shape.
Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const float> values);
Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const double> values);
Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const std::int64_t> values);
Array MakeScalar(std::string name, double value);
Array MakeCount(std::string name, std::int64_t value);

/// The values of an array as doubles, whatever its dtype (int64 above 2^53
/// round).
std::vector<double> ToDoubles(const Array& array);
/// The values of an int64 array. Errors: INVALID_ARGUMENT for another dtype.
absl::StatusOr<std::vector<std::int64_t>> ToInt64s(const Array& array);

/// One record of a result's log: a part of the answer, emitted once. Arrays of
/// the same name in later chunks continue the first along axis 0.
struct Chunk {
  std::vector<Array> arrays;
};

/// All arrays of a result, in order of first appearance, those of the same name
/// joined along axis 0.
/// Errors: DATA_LOSS naming the array when parts of one name differ in dtype or
/// in any length but the first, when a scalar comes twice, or when bytes do not
/// fit a shape.
absl::StatusOr<std::vector<Array>> Concatenate(std::vector<Chunk> chunks);

}  // namespace moescope::spec
