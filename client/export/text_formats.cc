#include "client/export/text_formats.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/log.h"

namespace moescope::client {
namespace {

template <class T>
std::string Shortest(T value) {
  std::array<char, 64> text{};
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return std::string(text.data(), end);
}

template <class T>
T ValueAt(const spec::Array& array, std::size_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// The value at `index`, "nan", "inf", "-inf" included.
std::string NumberAt(const spec::Array& array, std::size_t index) {
  switch (array.dtype) {
    case spec::DType::kFloat32:
      return Shortest(ValueAt<float>(array, index));
    case spec::DType::kFloat64:
      return Shortest(ValueAt<double>(array, index));
    case spec::DType::kInt64:
      return Shortest(ValueAt<std::int64_t>(array, index));
  }
  return "";
}

bool IsFinite(const spec::Array& array, std::size_t index) {
  switch (array.dtype) {
    case spec::DType::kFloat32:
      return std::isfinite(ValueAt<float>(array, index));
    case spec::DType::kFloat64:
      return std::isfinite(ValueAt<double>(array, index));
    case spec::DType::kInt64:
      return true;
  }
  return true;
}

// Appends the values below one position of `axis`, `next` being the first of
// them in row-major order; counts those that are not finite.
void AppendValues(const spec::Array& array, std::size_t axis, std::size_t& next,
                  std::int64_t& non_finite, std::string& out) {
  if (axis == array.shape.size()) {
    const bool finite = IsFinite(array, next);
    non_finite += finite ? 0 : 1;
    out += finite ? NumberAt(array, next) : "null";
    ++next;
    return;
  }
  out.push_back('[');
  for (std::int64_t i = 0; i < array.shape[axis]; ++i) {
    if (i > 0) {
      out.push_back(',');
    }
    AppendValues(array, axis + 1, next, non_finite, out);
  }
  out.push_back(']');
}

// The members of an array's object, without braces.
std::string ArrayMembers(const spec::Array& array) {
  std::string values;
  std::size_t next = 0;
  std::int64_t non_finite = 0;
  AppendValues(array, 0, next, non_finite, values);
  std::string out =
      absl::StrCat("\"dtype\":\"", spec::DTypeName(array.dtype),
                   "\",\"shape\":[", absl::StrJoin(array.shape, ","), "]");
  if (non_finite > 0) {
    absl::StrAppend(&out, ",\"non_finite\":", non_finite);
  }
  absl::StrAppend(&out, ",\"values\":", values);
  return out;
}

std::string CsvName(const std::string& name) {
  if (name.find_first_of(",\"\r\n") == std::string::npos) {
    return name;
  }
  std::string out = "\"";
  for (const char c : name) {
    out.append(c == '"' ? 2 : 1, c);
  }
  return out + "\"";
}

void AppendCsv(const spec::Array& array, std::size_t columns,
               std::string& out) {
  const std::string name = CsvName(array.name);
  std::vector<std::int64_t> index(array.shape.size(), 0);
  const std::string gap(columns - index.size(), ',');
  const auto count = static_cast<std::size_t>(array.num_elements());
  for (std::size_t i = 0; i < count; ++i) {
    absl::StrAppend(&out, name, index.empty() ? "" : ",",
                    absl::StrJoin(index, ","), gap, ",", NumberAt(array, i),
                    "\n");
    for (std::size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < array.shape[axis]) {
        break;
      }
      index[axis] = 0;
    }
  }
}

}  // namespace

std::string JsonText(const ResultDocument& document) {
  std::string out = "{";
  for (const auto& [key, value] : document.metadata) {
    absl::StrAppend(&out, JsonQuote(key), ":", JsonQuote(value), ",\n");
  }
  out += "\"arrays\":{";
  absl::string_view separator = "\n";
  for (const spec::Array& array : document.arrays) {
    absl::StrAppend(&out, separator, JsonQuote(array.name), ":{",
                    ArrayMembers(array), "}");
    separator = ",\n";
  }
  out += "}}\n";
  return out;
}

std::string JsonLinesText(const ResultDocument& document) {
  std::string out = "{\"metadata\":{";
  absl::string_view comma;
  for (const auto& [key, value] : document.metadata) {
    absl::StrAppend(&out, comma, JsonQuote(key), ":", JsonQuote(value));
    comma = ",";
  }
  out += "}}\n";
  for (const spec::Array& array : document.arrays) {
    absl::StrAppend(&out, "{\"name\":", JsonQuote(array.name), ",",
                    ArrayMembers(array), "}\n");
  }
  return out;
}

std::string CsvText(const ResultDocument& document) {
  std::size_t columns = 0;
  for (const spec::Array& array : document.arrays) {
    columns = std::max(columns, array.shape.size());
  }
  std::string out = "name";
  for (std::size_t i = 0; i < columns; ++i) {
    absl::StrAppend(&out, ",i", i);
  }
  out += ",value\n";
  for (const spec::Array& array : document.arrays) {
    AppendCsv(array, columns, out);
  }
  return out;
}

}  // namespace moescope::client
