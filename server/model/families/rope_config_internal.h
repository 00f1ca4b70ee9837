#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"

#include "moescope/model/config.h"
#include "server/model/config_reader_internal.h"

namespace moescope::model::internal {

/// What a family's rotary embedding starts from.
struct RopeBase {
  double theta = 10000.0;  ///< Where config.json has none.
  /// Width of which `partial_rotary_factor` is a fraction.
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
};

/// The object that says how positions are scaled: rope_parameters
/// (transformers 5), else rope_scaling (4); nullopt without either.
absl::StatusOr<std::optional<ConfigReader>> RopeObject(
    const ConfigReader& json);

/// Reads `rope_theta`, `rope_scaling` with its kind under "type" or
/// "rope_type", `rope_parameters` and `partial_rotary_factor`; all of
/// RopeConfig but `interleaved`.
/// Source: transformers 5.23, modeling_rope_utils.py; longrope's short_mscale
/// and long_mscale: modeling_phimoe.py.
/// Errors: UNIMPLEMENTED for an unknown kind; DATA_LOSS for a value out of its
/// range, a missing one, or two spellings that disagree.
absl::StatusOr<RopeConfig> ParseRope(const ConfigReader& json,
                                     const RopeBase& base);

/// YaRN's temperature 0.1 m ln(factor) + 1; 1 for a factor up to 1.
double YarnMagnitude(double factor, double m);

}  // namespace moescope::model::internal
