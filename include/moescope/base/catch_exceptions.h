#pragma once

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moescope {

/// What `body` returns; what it throws becomes a status: RESOURCE_EXHAUSTED with
/// reason OUT_OF_MEMORY for std::bad_alloc and what libtorch throws in its place,
/// INTERNAL for anything else.
absl::Status CatchExceptions(const std::function<absl::Status()>& body);

/// The same of a body that returns absl::StatusOr<T>.
template <class T, class Body>
absl::StatusOr<T> CatchExceptionsOf(const Body& body) {
  absl::StatusOr<T> found;
  absl::Status caught = CatchExceptions([&] {
    found = body();
    return found.status();
  });
  return caught.ok() ? std::move(found) : std::move(caught);
}

}  // namespace moescope
