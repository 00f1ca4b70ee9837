#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace moescope::spec {

/// What a result comes from: enough to compute it again. Not part of the log's
/// digest, since it holds times.
struct Provenance {
  std::string analysis;
  int analysis_version = 0;
  std::vector<std::string> models;            ///< Names as asked for.
  std::vector<std::string> model_identities;  ///< One per model.
  std::string spec_json;  ///< Normalised Spec; long token lists as digest.
  std::string tokens_digest;  ///< SHA-256 of the token ids; empty if none.
  std::string numerics_class;
  /// model::DescribeRouter of the first model, and of what was asked for in
  /// place of its own convention.
  std::string routing;
  std::map<std::string, std::string> versions;  ///< "moescope", "torch", ...
  absl::Time started = absl::UnixEpoch();
  absl::Time finished = absl::UnixEpoch();
};

}  // namespace moescope::spec
