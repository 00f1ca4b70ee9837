#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::internal {

/// INVALID_ARGUMENT about `field` when `value` is empty.
absl::Status RequireField(absl::string_view field, const std::string& value);
/// INVALID_ARGUMENT about "request_id" when it is too long.
absl::Status CheckRequestId(const std::string& request_id);
/// Entries of a page: the default for 0. INVALID_ARGUMENT about "page_size".
absl::StatusOr<std::int64_t> PageSize(std::int32_t asked);

/// A page of a list that is sorted by name.
struct NamePage {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string next_page_token;
};
/// `names` rise. A token stays good when entries come and go in between.
/// Errors: INVALID_ARGUMENT, field "page_size" or "page_token".
absl::StatusOr<NamePage> PageOfNames(const std::vector<std::string>& names,
                                     std::int32_t page_size,
                                     const std::string& page_token);

}  // namespace moescope::internal
