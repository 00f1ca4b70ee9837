#include "server/results/saved_state_internal.h"

#include "absl/strings/str_cat.h"

#include "server/results/crc32c_internal.h"
#include "server/results/log_format_internal.h"

namespace moescope::internal {
namespace {

constexpr absl::string_view kMagic = "MOESTATE";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kBodyStart = 16;
constexpr std::size_t kBytesStart = 24;

}  // namespace

std::string EncodeState(absl::string_view key, std::int64_t records,
                        absl::string_view bytes) {
  const std::string count =
      LittleEndian(static_cast<std::uint64_t>(records), 8);
  const std::uint32_t crc = Crc32c(bytes, Crc32c(count, Crc32c(key)));
  return absl::StrCat(kMagic, LittleEndian(kVersion, 4), LittleEndian(crc, 4),
                      count, bytes);
}

absl::StatusOr<SavedState> DecodeState(absl::string_view key,
                                       std::int64_t fence,
                                       absl::string_view file) {
  if (file.size() < kBytesStart || file.substr(0, kMagic.size()) != kMagic ||
      FromLittleEndian(file.substr(8), 4) != kVersion) {
    return absl::DataLossError("saved state: not a state of this version");
  }
  if (FromLittleEndian(file.substr(12), 4) !=
      Crc32c(file.substr(kBodyStart), Crc32c(key))) {
    return absl::DataLossError("saved state: wrong checksum");
  }
  SavedState state;
  state.fence = fence;
  state.records = static_cast<std::int64_t>(
      FromLittleEndian(file.substr(kBodyStart), 8));
  state.bytes = std::string(file.substr(kBytesStart));
  return state;
}

}  // namespace moescope::internal
