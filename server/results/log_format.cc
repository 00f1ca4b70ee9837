#include "server/results/log_format_internal.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

#include "server/results/crc32c_internal.h"

namespace moescope::internal {
namespace {

constexpr absl::string_view kMagic = "MOESCLOG";
constexpr std::uint64_t kVersion = 1;

}  // namespace

std::string LittleEndian(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes.push_back(static_cast<char>((value >> (8 * i)) & 0xFFu));
  }
  return bytes;
}

std::uint64_t FromLittleEndian(absl::string_view bytes, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) {
    const auto byte =
        static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
    value |= std::uint64_t{byte} << (8 * i);
  }
  return value;
}

std::string EncodeLogHeader(absl::string_view key) {
  const std::string version = LittleEndian(kVersion, 4);
  const std::uint32_t crc = Crc32c(key, Crc32c(version));
  return absl::StrCat(kMagic, version, LittleEndian(crc, 4), key);
}

absl::Status CheckLogHeader(absl::string_view bytes, absl::string_view key) {
  if (bytes == EncodeLogHeader(key)) {
    return absl::OkStatus();
  }
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError("result log: not a log (wrong magic)");
  }
  const std::uint64_t version = FromLittleEndian(bytes.substr(8), 4);
  if (version != kVersion) {
    return absl::DataLossError(absl::StrCat("result log: version ", version,
                                            ", expected ", kVersion));
  }
  return absl::DataLossError("result log: header is damaged or another key's");
}

std::uint32_t RecordCrc(absl::string_view payload) {
  // With the length, so that a run of zeros is not a valid empty record.
  return Crc32c(payload, Crc32c(LittleEndian(payload.size(), 4)));
}

std::string EncodeRecordHeader(absl::string_view payload) {
  return absl::StrCat(LittleEndian(payload.size(), 4),
                      LittleEndian(RecordCrc(payload), 4));
}

RecordHeader DecodeRecordHeader(absl::string_view bytes) {
  RecordHeader header;
  header.length = static_cast<std::int64_t>(FromLittleEndian(bytes, 4));
  header.crc =
      static_cast<std::uint32_t>(FromLittleEndian(bytes.substr(4), 4));
  return header;
}

}  // namespace moescope::internal
