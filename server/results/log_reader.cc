#include "moescope/results/result_log.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/results/log_format_internal.h"
#include "server/results/log_source_internal.h"

namespace moescope {

LogReader::LogReader(std::unique_ptr<internal::LogSource> source,
                     std::string key, LogExtent extent,
                     std::int64_t first_record, std::shared_ptr<const void> pin)
    : source_(std::move(source)),
      key_(std::move(key)),
      first_record_(first_record),
      pin_(std::move(pin)),
      extent_(std::move(extent)) {}
LogReader::~LogReader() = default;

std::int64_t LogReader::next_record() const {
  return position_ < first_record_ ? first_record_ : position_;
}

absl::StatusOr<std::optional<absl::string_view>> LogReader::Next() {
  if (extent_.bytes == 0) {
    return std::nullopt;
  }
  if (offset_ == 0) {
    MOESCOPE_RETURN_IF_ERROR(ReadHeader());
  }
  MOESCOPE_RETURN_IF_ERROR(SkipToFirst());
  if (position_ >= extent_.records) {
    if (offset_ != extent_.bytes) {
      return absl::DataLossError(absl::StrCat(
          "result log: ", extent_.records, " records end at byte ", offset_,
          ", expected ", extent_.bytes));
    }
    return std::nullopt;
  }
  MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view payload,
                            ReadRecord(/*skip=*/false));
  return payload;
}

absl::Status LogReader::ReadHeader() {
  MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view header,
                            source_->Read(0, internal::kLogHeaderBytes));
  MOESCOPE_RETURN_IF_ERROR(internal::CheckLogHeader(header, key_));
  offset_ = internal::kLogHeaderBytes;
  return absl::OkStatus();
}

absl::Status LogReader::SkipToFirst() {
  while (position_ < first_record_ && position_ < extent_.records) {
    MOESCOPE_RETURN_IF_ERROR(ReadRecord(/*skip=*/true).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::string_view> LogReader::ReadRecord(bool skip) {
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("result log: record ", position_, ": ", what));
  };
  std::int64_t offset = offset_ + internal::kRecordHeaderBytes;
  if (offset > extent_.bytes) {
    return damaged("begins behind the committed end");
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const absl::string_view bytes,
      source_->Read(offset_, internal::kRecordHeaderBytes));
  const internal::RecordHeader header = internal::DecodeRecordHeader(bytes);
  // Before the length is used for anything: no memory for a damaged number.
  if (header.length > kMaxRecordBytes ||
      header.length > extent_.bytes - offset) {
    return damaged("ends behind the committed end");
  }
  absl::string_view payload;
  if (!skip) {
    MOESCOPE_ASSIGN_OR_RETURN(payload, source_->Read(offset, header.length));
    if (internal::RecordCrc(payload) != header.crc) {
      return damaged("wrong checksum");
    }
  }
  offset_ = offset + header.length;
  ++position_;
  return payload;
}

absl::Status LogReader::ExtendTo(LogExtent extent) {
  if (extent.records < extent_.records || extent.bytes < extent_.bytes) {
    return InvalidField(
        "extent", absl::StrCat(extent.records, " records in ", extent.bytes,
                               " bytes are less than the ", extent_.records,
                               " in ", extent_.bytes, " seen before"));
  }
  extent_ = std::move(extent);
  return absl::OkStatus();
}

}  // namespace moescope
