#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/model/safetensors.h"

namespace moescope::model::internal {

/// One tensor as the header describes it; offsets count from the first byte
/// after the header.
struct HeaderTensor {
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, HeaderTensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads the JSON text of a safetensors header in front of `data_bytes` bytes
/// of data and checks all of it: every byte of data belongs to exactly one
/// tensor. Memory is bounded by a small multiple of the text.
/// Errors: DATA_LOSS naming tensor and cause; UNIMPLEMENTED for a number format
/// of the standard that we can't address (F4, F6_*, F8_E8M0, C64).
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view json_text, std::int64_t data_bytes);

}  // namespace moescope::model::internal
