#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "moescope/model/config.h"
#include "server/model/config_reader_internal.h"

namespace moescope::model::internal {

/// Reads quantization_config into config.quantisation, which stays kNone where
/// there is none, or {}. ParseDecoder does this; a family that does not call it does
/// it itself, so that nothing quantised is taken for plain numbers.
/// fp8 is what TensorBinder::RequireMatrix reads: e4m3 weights with one
/// weight_scale_inv per block, activations quantised on the fly (which is left
/// out here: products are in fp32). mxfp4 is what BindMxfp4Experts reads.
/// Errors: UNIMPLEMENTED naming a method outside `supported`, an unsupported
/// kind of fp8 or a compression_config; DATA_LOSS (a key of the wrong type).
absl::Status ParseQuantisation(const ConfigReader& json,
                               absl::Span<const Quantisation> supported,
                               ModelConfig& config);

}  // namespace moescope::model::internal
