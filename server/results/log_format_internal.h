#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::internal {

/// "MOESCLOG", version, CRC, 64 digits of the key.
inline constexpr std::int64_t kLogHeaderBytes = 8 + 4 + 4 + 64;
/// Length and CRC before each payload.
inline constexpr std::int64_t kRecordHeaderBytes = 8;

struct RecordHeader {
  std::int64_t length = 0;
  std::uint32_t crc = 0;
};

/// `value` as `count` ≤ 8 bytes, little-endian.
std::string LittleEndian(std::uint64_t value, int count);
/// The number that the first `count` bytes of `bytes` hold.
std::uint64_t FromLittleEndian(absl::string_view bytes, int count);

std::string EncodeLogHeader(absl::string_view key);
/// DATA_LOSS unless `bytes` is the header of a log of `key`.
absl::Status CheckLogHeader(absl::string_view bytes, absl::string_view key);

std::string EncodeRecordHeader(absl::string_view payload);
RecordHeader DecodeRecordHeader(absl::string_view bytes);
/// The CRC that the header of a record with `payload` must hold.
std::uint32_t RecordCrc(absl::string_view payload);

}  // namespace moescope::internal
