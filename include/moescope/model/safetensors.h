#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/mapped_file.h"

namespace moescope::model {

/// Number formats a safetensors header may name.
enum class TensorDtype {
  kBool, kU8, kI8, kF8E4M3, kF8E5M2, kI16, kU16, kF16, kBF16,
  kI32, kU32, kF32, kI64, kU64, kF64
};

/// Bytes of one element.
std::int64_t DtypeSize(TensorDtype dtype);
/// As safetensors writes it: "BF16".
const char* DtypeName(TensorDtype dtype);

/// One tensor of a mapped file. `data` stays valid as long as the file object.
struct TensorEntry {
  std::string name;
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;
  std::int64_t size_bytes = 0;
};

/// A safetensors file, mapped read-only. The whole header is checked before
/// anything of the data is touched: length ≤ 100 MB, JSON, dtypes, offsets
/// inside the file, no overlap, no hole, shape × dtype = bytes in checked
/// arithmetic, no duplicate name. https://github.com/huggingface/safetensors
/// Threads: immutable after Open.
class SafetensorsFile {
 public:
  /// Errors: NOT_FOUND, PERMISSION_DENIED; DATA_LOSS naming file (its last path
  /// component), tensor and offset or cause; UNIMPLEMENTED for a number format
  /// of the standard without whole bytes or with parts (F4, F6_E2M3, F6_E3M2,
  /// F8_E8M0, C64).
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(
      const std::string& path);
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }
  /// The whole file; tells whether it is still what it was when opened.
  const std::shared_ptr<const MappedFile>& mapped() const { return mapped_; }
  const std::string& path() const { return mapped_->path(); }
  std::int64_t file_bytes() const { return mapped_->stamp().size_bytes; }

 private:
  SafetensorsFile() = default;
  absl::Status ReadHeader();

  std::shared_ptr<const MappedFile> mapped_;
  std::map<std::string, TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace moescope::model
