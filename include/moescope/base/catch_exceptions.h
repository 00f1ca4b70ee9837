#pragma once

#include <exception>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moescope {

/// Whether `error` is std::bad_alloc or what libtorch's allocator for the host,
/// which has no exception of its own, throws in its place.
bool IsOutOfMemory(const std::exception& error);

/// What `body` returns; what it throws becomes a status: RESOURCE_EXHAUSTED with
/// reason OUT_OF_MEMORY for IsOutOfMemory, INTERNAL for anything else.
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
