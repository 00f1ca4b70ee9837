#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "moescope/base/quote_name.h"

namespace moescope::model::internal {

using moescope::QuoteName;

/// The last component of `path`; messages name files without their folders.
std::string FileName(absl::string_view path);

}  // namespace moescope::model::internal
