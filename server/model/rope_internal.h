#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/model/forward_kernels_internal.h"

#include "moescope/model/config.h"

namespace moescope::model::internal {

/// How one sequence is rotated: pair i at position p by the angle
/// p · inverse[i], cosine and sine times `factor`.
struct RopeFrequencies {
  std::vector<double> inverse;  // one per pair
  double factor = 1.0;
};

/// Definition, with r = theta^(-2i / dim) for pair i of `dim` / 2, s = factor:
///   default   r
///   linear    r / s
///   dynamic   r of theta · (s n / original - (s - 1))^(dim / (dim - 2)), where
///             n is `length` if above `original_positions`, else that
///   yarn      r / s where the ramp from beta_fast to beta_slow turns per
///             original_positions is 1, r where it is 0, mixed between
///   llama3    r / s for wavelengths above original / low_frequency_factor, r
///             for those below original / high_frequency_factor, mixed between
///   longrope  r / short_factors[i], beyond original_positions
///             r / long_factors[i]
/// Source: transformers 5.23, modeling_rope_utils.py; YaRN: arXiv 2309.00071,
/// section 3. longrope switches by the length of the whole sequence, as the
/// published modeling_phimoe.py does.
/// Precision: fp64.
RopeFrequencies FrequenciesFor(const RopeConfig& rope, std::int64_t dim,
                               std::int64_t length);

/// What depends on each row's position alone, computed in fp64 on the host.
struct PositionTables {
  at::Tensor cosine;  // [R, rotated width / 2]
  at::Tensor sine;    // [R, rotated width / 2]
  /// Factor on queries of layers without rotation; undefined where the model
  /// has none.
  at::Tensor temperature;  // [R, 1]
};
/// Positions start at 0 in each sequence; rows after the last sequence (up to
/// `rows`) have position 0.
PositionTables MakePositionTables(absl::Span<const std::int64_t> lengths,
                                  std::int64_t rows, const ModelConfig& config,
                                  c10::Device device);

/// Rotates `x` [R, heads, rotated width], a view into heads, in place, tile by
/// tile.
absl::Status ApplyRope(const PassResources& pass, const PositionTables& tables,
                       bool interleaved, const at::Tensor& x);

}  // namespace moescope::model::internal
