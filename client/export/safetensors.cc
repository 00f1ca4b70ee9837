#include "client/export/safetensors.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/export/little_endian.h"

#include "moescope/base/log.h"

namespace moescope::client {
namespace {

absl::string_view TypeName(spec::DType dtype) {
  switch (dtype) {
    case spec::DType::kFloat32:
      return "F32";
    case spec::DType::kFloat64:
      return "F64";
    case spec::DType::kInt64:
      return "I64";
  }
  return "";
}

}  // namespace

std::string SafetensorsBytes(const ResultDocument& document) {
  std::string header = "{\"__metadata__\":{";
  absl::string_view comma;
  for (const auto& [key, value] : document.metadata) {
    absl::StrAppend(&header, comma, JsonQuote(key), ":", JsonQuote(value));
    comma = ",";
  }
  header += "}";
  std::uint64_t offset = 0;
  for (const spec::Array& array : document.arrays) {
    absl::StrAppend(&header, ",", JsonQuote(array.name), ":{\"dtype\":\"",
                    TypeName(array.dtype), "\",\"shape\":[",
                    absl::StrJoin(array.shape, ","), "],\"data_offsets\":[",
                    offset, ",", offset + array.bytes.size(), "]}");
    offset += array.bytes.size();
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string out;
  AppendLittleEndian(header.size(), 8, out);
  out += header;
  for (const spec::Array& array : document.arrays) {
    out += array.bytes;
  }
  return out;
}

}  // namespace moescope::client
