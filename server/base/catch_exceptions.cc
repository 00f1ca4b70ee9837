#include "moescope/base/catch_exceptions.h"

#include <exception>
#include <new>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"

namespace moescope {

absl::Status CatchExceptions(const std::function<absl::Status()>& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    ErrorDetails details;
    details.reason = "OUT_OF_MEMORY";
    return MakeError(absl::StatusCode::kResourceExhausted,
                     "the system gave no more memory", details);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("exception: ", error.what()));
  } catch (...) {
    return absl::InternalError("exception of no known type");
  }
}

}  // namespace moescope
