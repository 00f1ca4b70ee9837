#include "moescope/base/field_path.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/base/error.h"

namespace moescope {
namespace {

// `ends`: what may follow the path.
std::string Renamed(absl::string_view text, absl::string_view from,
                    absl::string_view to, absl::string_view ends) {
  absl::string_view rest = text;
  if (!absl::ConsumePrefix(&rest, from) ||
      (!rest.empty() && ends.find(rest.front()) == absl::string_view::npos)) {
    return std::string(text);
  }
  return absl::StrCat(to, rest);
}

}  // namespace

absl::Status RenameField(const absl::Status& status, absl::string_view from,
                         absl::string_view to) {
  ErrorDetails details = GetErrorDetails(status);
  if (status.ok() || details.fields.empty()) {
    return status;
  }
  for (FieldViolation& field : details.fields) {
    field.field = Renamed(field.field, from, to, ".[");
  }
  return MakeError(status.code(), Renamed(status.message(), from, to, ".[:"),
                   details);
}

}  // namespace moescope
