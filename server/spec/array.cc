#include "moescope/spec/array.h"

#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace moescope::spec {
namespace {

template <typename T>
std::string ToBytes(absl::Span<const T> values) {
  // Little-endian hosts only (x86-64, AArch64): memory order is wire order.
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

template <typename T>
std::vector<T> FromBytes(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

template <typename T>
Array Make(std::string name, DType dtype, std::vector<std::int64_t> shape,
           absl::Span<const T> values) {
  Array array;
  array.name = std::move(name);
  array.dtype = dtype;
  array.shape = std::move(shape);
  array.bytes = ToBytes(values);
  return array;
}

absl::Status Append(Array part, Array& whole) {
  if (whole.shape.empty() || part.shape.empty()) {
    return absl::DataLossError(
        absl::StrCat(whole.name, ": a scalar comes twice"));
  }
  const auto inner = [](const Array& array) {
    return absl::MakeConstSpan(array.shape).subspan(1);
  };
  if (part.dtype != whole.dtype || inner(part) != inner(whole)) {
    return absl::DataLossError(absl::StrCat(
        whole.name, ": a part is ", DTypeName(part.dtype), " [",
        absl::StrJoin(part.shape, ","), "], those before are ",
        DTypeName(whole.dtype), " [", absl::StrJoin(whole.shape, ","), "]"));
  }
  whole.shape[0] += part.shape[0];
  whole.bytes += part.bytes;
  return absl::OkStatus();
}

}  // namespace

std::int64_t DTypeSize(DType dtype) {
  return dtype == DType::kFloat32 ? 4 : 8;
}

absl::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kInt64:
      return "int64";
  }
  return "";
}

absl::StatusOr<DType> ParseDType(absl::string_view name) {
  for (const DType dtype :
       {DType::kFloat32, DType::kFloat64, DType::kInt64}) {
    if (name == DTypeName(dtype)) {
      return dtype;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "dtype: \"", name, "\" is none of float32, float64, int64"));
}

std::int64_t Array::num_elements() const {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) {
    count *= length;
  }
  return count;
}

absl::Status Array::Validate() const {
  std::int64_t expected = DTypeSize(dtype);
  for (const std::int64_t length : shape) {
    if (length < 0 || __builtin_mul_overflow(expected, length, &expected)) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, ": shape [", absl::StrJoin(shape, ","), "] is not possible"));
    }
  }
  if (expected != static_cast<std::int64_t>(bytes.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": ", bytes.size(), " bytes do not fill ", DTypeName(dtype), " [",
        absl::StrJoin(shape, ","), "]"));
  }
  return absl::OkStatus();
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const float> values) {
  return Make(std::move(name), DType::kFloat32, std::move(shape), values);
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const double> values) {
  return Make(std::move(name), DType::kFloat64, std::move(shape), values);
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const std::int64_t> values) {
  return Make(std::move(name), DType::kInt64, std::move(shape), values);
}

Array MakeScalar(std::string name, double value) {
  return MakeArray(std::move(name), {}, absl::Span<const double>(&value, 1));
}

Array MakeCount(std::string name, std::int64_t value) {
  return MakeArray(std::move(name), {},
                   absl::Span<const std::int64_t>(&value, 1));
}

std::vector<double> ToDoubles(const Array& array) {
  if (array.dtype == DType::kFloat64) {
    return FromBytes<double>(array.bytes);
  }
  if (array.dtype == DType::kFloat32) {
    const std::vector<float> values = FromBytes<float>(array.bytes);
    return {values.begin(), values.end()};
  }
  std::vector<double> out;
  for (const std::int64_t value : FromBytes<std::int64_t>(array.bytes)) {
    out.push_back(static_cast<double>(value));
  }
  return out;
}

absl::StatusOr<std::vector<std::int64_t>> ToInt64s(const Array& array) {
  if (array.dtype != DType::kInt64) {
    return absl::InvalidArgumentError(absl::StrCat(
        array.name, ": is ", DTypeName(array.dtype), ", not int64"));
  }
  return FromBytes<std::int64_t>(array.bytes);
}

absl::StatusOr<std::vector<Array>> Concatenate(std::vector<Chunk> chunks) {
  std::vector<Array> arrays;
  std::map<std::string, std::size_t> positions;
  for (Chunk& chunk : chunks) {
    for (Array& array : chunk.arrays) {
      if (absl::Status status = array.Validate(); !status.ok()) {
        return absl::DataLossError(status.message());
      }
      const auto [found, fresh] =
          positions.try_emplace(array.name, arrays.size());
      if (fresh) {
        arrays.push_back(std::move(array));
      } else if (absl::Status status =
                     Append(std::move(array), arrays[found->second]);
                 !status.ok()) {
        return status;
      }
    }
  }
  return arrays;
}

}  // namespace moescope::spec
