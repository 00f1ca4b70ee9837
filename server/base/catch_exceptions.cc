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

// libtorch's CPU allocator has no exception of its own.
bool IsTorchOutOfMemory(const std::exception& error) {
  return absl::StrContains(error.what(),
                           "DefaultCPUAllocator: can't allocate memory");
}

}  // namespace

absl::Status CatchExceptions(const std::function<absl::Status()>& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::exception& error) {
    if (IsTorchOutOfMemory(error)) {
      return OutOfMemory();
    }
    return absl::InternalError(absl::StrCat("exception: ", error.what()));
  } catch (...) {
    return absl::InternalError("exception of no known type");
  }
}

}  // namespace moescope
