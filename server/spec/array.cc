#include "moescope/spec/array.h"

#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"

namespace moescope::spec {
namespace {

// Bytes are copied as they lie in memory.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "arrays are little-endian");

template <class T>
Array FromValues(std::string name, DType dtype, std::vector<std::int64_t> shape,
                 absl::Span<const T> values) {
  Array array;
  array.name = std::move(name);
  array.dtype = dtype;
  array.shape = std::move(shape);
  array.bytes.resize(values.size() * sizeof(T));
  if (!values.empty()) {
    std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  }
  return array;
}

template <class T>
std::vector<T> Values(const Array& array) {
  std::vector<T> values(array.bytes.size() / sizeof(T));
  if (!values.empty()) {
    std::memcpy(values.data(), array.bytes.data(), values.size() * sizeof(T));
  }
  return values;
}

template <class T>
std::vector<double> Widened(const Array& array) {
  const std::vector<T> values = Values<T>(array);
  std::vector<double> out;
  out.reserve(values.size());
  for (const T value : values) {
    out.push_back(static_cast<double>(value));
  }
  return out;
}

absl::Status Append(Array part, Array& whole) {
  if (whole.shape.empty() || part.shape.empty()) {
    return absl::DataLossError(
        absl::StrCat("array \"", whole.name, "\": a scalar comes twice"));
  }
  const auto tail = [](const Array& array) {
    return absl::MakeConstSpan(array.shape).subspan(1);
  };
  if (part.dtype != whole.dtype || tail(part) != tail(whole)) {
    return absl::DataLossError(absl::StrCat(
        "array \"", whole.name, "\": a part is ", DTypeName(part.dtype), " [",
        absl::StrJoin(part.shape, ", "), "], those before are ",
        DTypeName(whole.dtype), " [", absl::StrJoin(whole.shape, ", "), "]"));
  }
  whole.shape[0] += part.shape[0];
  whole.bytes += part.bytes;
  return absl::OkStatus();
}

}  // namespace

std::int64_t DTypeSize(DType dtype) { return dtype == DType::kFloat32 ? 4 : 8; }

absl::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kInt64:
      return "int64";
  }
  return "unknown";
}

absl::StatusOr<DType> ParseDType(absl::string_view name) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt64}) {
    if (name == DTypeName(dtype)) {
      return dtype;
    }
  }
  return InvalidField("dtype", absl::StrCat("\"", name,
                                            "\" is none of float32, float64, "
                                            "int64"));
}

std::int64_t Array::num_elements() const {
  std::int64_t product = 1;
  bool overflow = false;
  bool empty = false;
  for (const std::int64_t length : shape) {
    if (length < 0) {
      return -1;
    }
    empty = empty || length == 0;
    overflow = overflow || __builtin_mul_overflow(product, length, &product);
  }
  // A length of 0 makes the product 0 wherever it stands.
  if (empty) {
    return 0;
  }
  return overflow ? -1 : product;
}

absl::Status Array::Validate() const {
  const std::int64_t elements = num_elements();
  std::int64_t size = 0;
  if (elements < 0 ||
      __builtin_mul_overflow(elements, DTypeSize(dtype), &size) ||
      size != static_cast<std::int64_t>(bytes.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "array \"", name, "\": ", bytes.size(), " bytes do not fit ",
        DTypeName(dtype), " [", absl::StrJoin(shape, ", "), "]"));
  }
  return absl::OkStatus();
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const float> values) {
  return FromValues(std::move(name), DType::kFloat32, std::move(shape), values);
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const double> values) {
  return FromValues(std::move(name), DType::kFloat64, std::move(shape), values);
}

Array MakeArray(std::string name, std::vector<std::int64_t> shape,
                absl::Span<const std::int64_t> values) {
  return FromValues(std::move(name), DType::kInt64, std::move(shape), values);
}

Array MakeScalar(std::string name, double value) {
  return MakeArray(std::move(name), {}, absl::Span<const double>(&value, 1));
}

Array MakeCount(std::string name, std::int64_t value) {
  return MakeArray(std::move(name), {},
                   absl::Span<const std::int64_t>(&value, 1));
}

std::vector<double> ToDoubles(const Array& array) {
  switch (array.dtype) {
    case DType::kFloat32:
      return Widened<float>(array);
    case DType::kFloat64:
      return Values<double>(array);
    case DType::kInt64:
      return Widened<std::int64_t>(array);
  }
  return {};
}

absl::StatusOr<std::vector<std::int64_t>> ToInt64s(const Array& array) {
  if (array.dtype != DType::kInt64) {
    return absl::InvalidArgumentError(
        absl::StrCat("array \"", array.name, "\" is ", DTypeName(array.dtype),
                     ", not int64"));
  }
  return Values<std::int64_t>(array);
}

absl::StatusOr<std::vector<Array>> Concatenate(std::vector<Chunk> chunks) {
  std::vector<Array> arrays;
  std::map<std::string, std::size_t> position;
  for (Chunk& chunk : chunks) {
    for (Array& array : chunk.arrays) {
      if (absl::Status status = array.Validate(); !status.ok()) {
        return absl::DataLossError(status.message());
      }
      const auto [found, fresh] =
          position.try_emplace(array.name, arrays.size());
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
