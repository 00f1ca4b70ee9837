#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "moescope/base/mapped_file.h"
#include "moescope/model/safetensors.h"

namespace moescope::model {

/// A pytorch_model*.bin as torch.save writes it from 1.6 on: a zip file whose
/// stored entries are tensor data, mapped in place, and one pickle that says
/// what they are. The pickle is data here, never a program: only the opcodes
/// and names that a state dict of tensors needs are known
/// (torch._utils._rebuild_tensor_v2, the torch.*Storage types,
/// collections.OrderedDict), and none of them runs anything.
/// Threads: immutable after Open.
class PytorchFile {
 public:
  /// Errors: NOT_FOUND, PERMISSION_DENIED; DATA_LOSS naming file (its last path
  /// component) and cause: no zip file, compressed or overlapping entries,
  /// offsets outside the file, any other name or opcode in the pickle, sizes
  /// that contradict each other; UNIMPLEMENTED for the format before torch 1.6,
  /// another byte order, and tensors that are not contiguous (named).
  static absl::StatusOr<std::shared_ptr<const PytorchFile>> Open(
      const std::string& path);
  PytorchFile(const PytorchFile&) = delete;
  PytorchFile& operator=(const PytorchFile&) = delete;

  /// Tensors may share memory.
  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  /// The whole file; tells whether it is still what it was when opened.
  const std::shared_ptr<const MappedFile>& mapped() const { return mapped_; }

 private:
  PytorchFile() = default;
  absl::Status Read();

  std::shared_ptr<const MappedFile> mapped_;
  std::map<std::string, TensorEntry> tensors_;
};

}  // namespace moescope::model
