#include "moescope/base/catch_exceptions.h"

#include <exception>
#include <new>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"

namespace moescope {
namespace {

absl::Status OutOfMemory() {
  ErrorDetails details;
  details.reason = "OUT_OF_MEMORY";
  return MakeError(absl::StatusCode::kResourceExhausted,
                   "the system gave no more memory", details);
}

}  // namespace

bool IsOutOfMemory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         absl::StrContains(error.what(),
                           "DefaultCPUAllocator: can't allocate memory");
}

absl::Status CatchExceptions(const std::function<absl::Status()>& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    if (IsOutOfMemory(error)) {
      return OutOfMemory();
    }
    return absl::InternalError(absl::StrCat("exception: ", error.what()));
  } catch (...) {
    return absl::InternalError("exception of no known type");
  }
}

}  // namespace moescope
