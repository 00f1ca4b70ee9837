#pragma once

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace moescope {

/// Incremental SHA-256 (FIPS 180-4). Threads: one at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(absl::string_view bytes);
  /// 64 lower-case hex digits of all bytes so far; may be called repeatedly.
  std::string HexDigest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 64 lower-case hex digits of `bytes`.
std::string Sha256Hex(absl::string_view bytes);

}  // namespace moescope
