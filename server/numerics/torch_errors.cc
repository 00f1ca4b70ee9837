#include "moescope/numerics/torch_errors.h"

#include <c10/util/Exception.h>

#include <exception>

#include "absl/strings/str_cat.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

absl::Status OutOfDeviceMemory(const char* what) {
  ErrorDetails details;
  details.reason = "OUT_OF_DEVICE_MEMORY";
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("out of device memory: ", what), details);
}

absl::Status ToStatus(const std::exception& error, const char* what) {
  return IsOutOfMemory(error)
             ? OutOfDeviceMemory(what)
             : absl::InternalError(absl::StrCat("torch: ", what));
}

}  // namespace

absl::Status CatchTorchErrors(const std::function<absl::Status()>& body) {
  try {
    return body();
  } catch (const c10::OutOfMemoryError& error) {
    return OutOfDeviceMemory(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return ToStatus(error, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return ToStatus(error, error.what());
  }
}

}  // namespace moescope::numerics
