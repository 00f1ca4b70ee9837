#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

#include "moescope/model/config.h"
#include "tests/model/safetensors_bytes.h"

namespace moescope::model {

inline std::string Testdata(const std::string& name) {
  return ReadBytes(MOESCOPE_SOURCE_DIR "/tests/testdata/" + name);
}

/// The config.json of fixture `name` with `patch` merged into it (RFC 7386:
/// null removes a key).
inline absl::StatusOr<ModelConfig> ParsePatched(const std::string& name,
                                                const char* patch) {
  nlohmann::json config =
      nlohmann::json::parse(Testdata("fixtures/" + name + "/config.json"));
  config.merge_patch(nlohmann::json::parse(patch));
  return ParseConfig(config.dump());
}

inline std::string Message(const absl::StatusOr<ModelConfig>& config) {
  return std::string(config.status().message());
}

}  // namespace moescope::model
