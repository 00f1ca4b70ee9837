#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/model/safetensors.h"

namespace moescope::model::internal {

/// Reads the pickle of a dictionary of names to tensors, as torch.save writes
/// it (protocol 2), without running anything: a call is looked up among the
/// three that such a dictionary needs and stands for data. `storages` are the
/// tensor data by the key that the pickle gives them; entries point there.
/// Source: Python's pickletools (opcodes); torch/serialization.py
/// (persistent ids), torch/_utils.py (_rebuild_tensor_v2).
/// Errors: DATA_LOSS naming offset or tensor and cause (another opcode, another
/// name, sizes beyond their storage, a value that is no tensor, more than a
/// million objects); UNIMPLEMENTED for a tensor that is not contiguous.
absl::StatusOr<std::map<std::string, TensorEntry>> ReadTensorPickle(
    absl::string_view pickle,
    const std::map<std::string, absl::string_view>& storages);

}  // namespace moescope::model::internal
