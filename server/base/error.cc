#include "moescope/base/error.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace moescope {
namespace {

constexpr absl::string_view kPayloadUrl = "moescope/error-details";

// One line per entry, tab-separated, each value C-escaped: the payload never
// leaves the process, so it needs no schema, only a lossless round trip.
void AppendLine(std::string& out, absl::string_view kind, absl::string_view a,
                absl::string_view b) {
  absl::StrAppend(&out, kind, "\t", absl::CEscape(a), "\t", absl::CEscape(b),
                  "\n");
}

std::string Unescape(absl::string_view text) {
  std::string out;
  absl::CUnescape(text, &out);
  return out;
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       const ErrorDetails& details) {
  std::string payload;
  AppendLine(payload, "reason", details.reason, "");
  for (const FieldViolation& field : details.fields) {
    AppendLine(payload, "field", field.field, field.description);
  }
  for (const auto& [key, value] : details.metadata) {
    AppendLine(payload, "meta", key, value);
  }
  if (details.retry_after.has_value()) {
    AppendLine(payload, "retry",
               absl::StrCat(absl::ToInt64Milliseconds(*details.retry_after)),
               "");
  }
  absl::Status status(code, message);
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

absl::Status FieldError(absl::StatusCode code, absl::string_view field,
                        absl::string_view description,
                        absl::string_view reason) {
  ErrorDetails details;
  details.reason = std::string(reason);
  details.fields.push_back({std::string(field), std::string(description)});
  return MakeError(code, absl::StrCat(field, ": ", description), details);
}

absl::Status InvalidField(absl::string_view field,
                          absl::string_view description) {
  return FieldError(absl::StatusCode::kInvalidArgument, field, description);
}

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) {
    return details;
  }
  const std::string text(*payload);
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, '\t');
    if (parts.size() != 3) {
      continue;
    }
    const std::string a = Unescape(parts[1]);
    const std::string b = Unescape(parts[2]);
    if (parts[0] == "reason") {
      details.reason = a;
    } else if (parts[0] == "field") {
      details.fields.push_back({a, b});
    } else if (parts[0] == "meta") {
      details.metadata[a] = b;
    } else if (long long ms = 0; absl::SimpleAtoi(a, &ms)) {
      details.retry_after = absl::Milliseconds(ms);
    }
  }
  return details;
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) {
    return status;
  }
  absl::Status out(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& payload) {
        out.SetPayload(url, payload);
      });
  return out;
}

}  // namespace moescope
