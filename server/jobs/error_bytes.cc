#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "server/jobs/error_bytes_internal.h"

namespace moescope::internal {
namespace {

void Append(std::string& out, absl::string_view text) {
  absl::StrAppend(&out, text.size(), ":", text);
}

std::optional<std::string> Take(absl::string_view& in) {
  const std::size_t colon = in.find(':');
  std::uint64_t size = 0;
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(in.substr(0, colon), &size) ||
      size > in.size() - colon - 1) {
    return std::nullopt;
  }
  std::string text(in.substr(colon + 1, size));
  in.remove_prefix(colon + 1 + size);
  return text;
}

}  // namespace

// A list of pairs: kind and value; a field or a fact takes a third string.
std::string EncodeErrorDetails(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  std::string out;
  if (!details.reason.empty()) {
    Append(out, "reason");
    Append(out, details.reason);
    Append(out, "");
  }
  for (const FieldViolation& field : details.fields) {
    Append(out, "field");
    Append(out, field.field);
    Append(out, field.description);
  }
  for (const auto& [key, value] : details.metadata) {
    Append(out, "fact");
    Append(out, key);
    Append(out, value);
  }
  if (details.retry_after.has_value()) {
    Append(out, "retry_ms");
    Append(out, absl::StrCat(absl::ToInt64Milliseconds(*details.retry_after)));
    Append(out, "");
  }
  return out;
}

absl::Status DecodeError(absl::StatusCode code, absl::string_view message,
                         absl::string_view details) {
  if (code == absl::StatusCode::kOk) {
    return absl::OkStatus();
  }
  if (details.empty()) {
    return absl::Status(code, message);
  }
  ErrorDetails decoded;
  while (!details.empty()) {
    const auto kind = Take(details);
    const auto first = Take(details);
    const auto second = Take(details);
    if (!kind.has_value() || !first.has_value() || !second.has_value()) {
      break;
    }
    std::int64_t milliseconds = 0;
    if (*kind == "reason") {
      decoded.reason = *first;
    } else if (*kind == "field") {
      decoded.fields.push_back({*first, *second});
    } else if (*kind == "fact") {
      decoded.metadata[*first] = *second;
    } else if (*kind == "retry_ms" && absl::SimpleAtoi(*first, &milliseconds)) {
      decoded.retry_after = absl::Milliseconds(milliseconds);
    }
  }
  return MakeError(code, message, decoded);
}

}  // namespace moescope::internal
