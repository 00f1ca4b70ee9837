#include "server/model/quote_name_internal.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

#include "moescope/base/log.h"

namespace moescope::model::internal {

std::string QuoteName(absl::string_view name) {
  constexpr std::size_t kMaxBytes = 120;
  if (name.size() <= kMaxBytes) return JsonQuote(name);
  return JsonQuote(absl::StrCat(name.substr(0, kMaxBytes), "..."));
}

std::string FileName(absl::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash != absl::string_view::npos) path.remove_prefix(slash + 1);
  return std::string(path);
}

}  // namespace moescope::model::internal
