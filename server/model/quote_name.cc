#include "server/model/quote_name_internal.h"

#include <cstddef>

namespace moescope::model::internal {

std::string FileName(absl::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash != absl::string_view::npos) path.remove_prefix(slash + 1);
  return std::string(path);
}

}  // namespace moescope::model::internal
