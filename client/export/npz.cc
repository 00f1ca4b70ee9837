#include "client/export/npz.h"

#include <zlib.h>

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/export/little_endian.h"

#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"

namespace moescope::client {
namespace {

constexpr std::uint64_t kVersionNeeded = 20;  // zip 2.0, as numpy writes
constexpr std::uint64_t kUtf8Names = 0x0800;  // general purpose bit 11
constexpr std::uint64_t kDate = 0x21;         // 1980-01-01, the format's zero
constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kMaxMembers = std::numeric_limits<std::uint16_t>::max();
// numpy aligns the data of an .npy file to so many bytes.
constexpr std::size_t kNpyAlignment = 64;
constexpr std::size_t kNpyPrefix = 10;  // magic, version, header length

std::string ShapeTuple(const std::vector<std::int64_t>& shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "),
                      shape.size() == 1 ? ",)" : ")");
}

std::string NpyBytes(absl::string_view descr,
                     const std::vector<std::int64_t>& shape,
                     absl::string_view data) {
  std::string header = absl::StrCat(
      "{'descr': '", descr,
      "', 'fortran_order': False, 'shape': ", ShapeTuple(shape), ", }");
  const std::size_t used = kNpyPrefix + header.size() + 1;
  header.append((kNpyAlignment - used % kNpyAlignment) % kNpyAlignment, ' ');
  header.push_back('\n');
  std::string out("\x93NUMPY\x01\x00", 8);
  AppendLittleEndian(header.size(), 2, out);
  absl::StrAppend(&out, header, data);
  return out;
}

absl::string_view Descr(spec::DType dtype) {
  switch (dtype) {
    case spec::DType::kFloat32:
      return "<f4";
    case spec::DType::kFloat64:
      return "<f8";
    case spec::DType::kInt64:
      return "<i8";
  }
  return "";
}

// A numpy string array has four bytes per character (UCS-4). JSON needs no
// character beyond ASCII.
std::string MetadataNpy(const ResultDocument& document) {
  std::string json = "{";
  absl::string_view comma;
  for (const auto& [key, value] : document.metadata) {
    absl::StrAppend(&json, comma, JsonQuote(key), ": ", JsonQuote(value));
    comma = ", ";
  }
  json += "}";
  std::string data;
  std::int64_t characters = 0;
  for (std::size_t i = 0; i < json.size(); ++characters) {
    // JsonQuote gives valid UTF-8, so lead bytes tell the length.
    const auto lead = static_cast<unsigned char>(json[i]);
    const int extra = lead >= 0xF0   ? 3
                      : lead >= 0xE0 ? 2
                      : lead >= 0xC0 ? 1
                                     : 0;
    std::uint32_t point = extra == 0 ? lead : lead & (0x3Fu >> extra);
    for (int k = 0; k < extra; ++k) {
      point = (point << 6) | (static_cast<unsigned char>(json[++i]) & 0x3Fu);
    }
    ++i;
    AppendLittleEndian(point, 4, data);
  }
  return NpyBytes(absl::StrCat("<U", characters), {}, data);
}

class ZipWriter {
 public:
  absl::Status Add(absl::string_view name, absl::string_view content) {
    if (out_.size() + content.size() + name.size() + 64 > kMaxBytes ||
        members_ + 1 >= kMaxMembers) {
      return absl::ResourceExhaustedError(
          "the result exceeds what .npz holds without zip64 (4 GiB, 65534 "
          "arrays); write .safetensors");
    }
    const std::uint64_t offset = out_.size();
    // crc32_z takes a size_t, crc32 would cut the length to 32 bits.
    const std::uint64_t crc = crc32_z(
        0, reinterpret_cast<const Bytef*>(content.data()), content.size());
    std::string fields;
    AppendLittleEndian(kVersionNeeded, 2, fields);
    AppendLittleEndian(kUtf8Names, 2, fields);
    AppendLittleEndian(0, 2, fields);  // stored
    AppendLittleEndian(0, 2, fields);  // time
    AppendLittleEndian(kDate, 2, fields);
    AppendLittleEndian(crc, 4, fields);
    AppendLittleEndian(content.size(), 4, fields);
    AppendLittleEndian(content.size(), 4, fields);
    AppendLittleEndian(name.size(), 2, fields);
    AppendLittleEndian(0, 2, fields);  // extra field
    absl::StrAppend(&out_, absl::string_view("PK\x03\x04", 4), fields, name,
                    content);
    directory_.append("PK\x01\x02", 4);
    AppendLittleEndian(kVersionNeeded, 2, directory_);
    directory_ += fields;
    AppendLittleEndian(0, 2, directory_);  // comment
    AppendLittleEndian(0, 2, directory_);  // disk
    AppendLittleEndian(0, 2, directory_);  // internal attributes
    AppendLittleEndian(0, 4, directory_);  // external attributes
    AppendLittleEndian(offset, 4, directory_);
    absl::StrAppend(&directory_, name);
    ++members_;
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Finish() && {
    const std::uint64_t start = out_.size();
    if (start + directory_.size() >= kMaxBytes) {
      return absl::ResourceExhaustedError(
          "the result exceeds the 4 GiB of an .npz; write .safetensors");
    }
    out_ += directory_;
    out_.append("PK\x05\x06", 4);
    AppendLittleEndian(0, 4, out_);  // disks
    AppendLittleEndian(members_, 2, out_);
    AppendLittleEndian(members_, 2, out_);
    AppendLittleEndian(directory_.size(), 4, out_);
    AppendLittleEndian(start, 4, out_);
    AppendLittleEndian(0, 2, out_);  // comment
    return std::move(out_);
  }

 private:
  std::string out_;
  std::string directory_;
  std::uint64_t members_ = 0;
};

}  // namespace

absl::StatusOr<std::string> NpzBytes(const ResultDocument& document) {
  ZipWriter zip;
  for (const spec::Array& array : document.arrays) {
    MOESCOPE_RETURN_IF_ERROR(
        zip.Add(absl::StrCat(array.name, ".npy"),
                NpyBytes(Descr(array.dtype), array.shape, array.bytes)));
  }
  MOESCOPE_RETURN_IF_ERROR(zip.Add("__metadata__.npy", MetadataNpy(document)));
  return std::move(zip).Finish();
}

}  // namespace moescope::client
