#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "server/rpc/validation_internal.h"
#include "server/rpc/wire_limits_internal.h"

namespace moescope::internal {
namespace {

constexpr absl::string_view kTokenPrefix = "after:";

}  // namespace

absl::Status RequireField(absl::string_view field, const std::string& value) {
  return value.empty() ? InvalidField(field, "is empty, and required")
                       : absl::OkStatus();
}

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.size() > kMaxRequestIdLength) {
    return InvalidField("request_id",
                        absl::StrCat("has ", request_id.size(),
                                     " characters, at most ",
                                     kMaxRequestIdLength, " are allowed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> PageSize(std::int32_t asked) {
  if (asked < 0 || asked > kMaxPageSize) {
    return InvalidField("page_size", absl::StrCat(asked, " is outside [0, ",
                                                  kMaxPageSize, "]"));
  }
  return asked == 0 ? kDefaultPageSize : asked;
}

absl::StatusOr<NamePage> PageOfNames(const std::vector<std::string>& names,
                                     std::int32_t page_size,
                                     const std::string& page_token) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t size, PageSize(page_size));
  NamePage page;
  if (!page_token.empty()) {
    if (!absl::StartsWith(page_token, kTokenPrefix)) {
      return InvalidField("page_token",
                          absl::StrCat(QuoteName(page_token),
                                       " is no token of this list"));
    }
    const auto next =
        std::upper_bound(names.begin(), names.end(),
                         page_token.substr(kTokenPrefix.size()));
    page.begin = static_cast<std::size_t>(next - names.begin());
  }
  page.end =
      std::min(names.size(), page.begin + static_cast<std::size_t>(size));
  if (page.end < names.size()) {
    page.next_page_token = absl::StrCat(kTokenPrefix, names[page.end - 1]);
  }
  return page;
}

}  // namespace moescope::internal
