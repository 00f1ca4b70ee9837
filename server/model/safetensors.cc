#include "moescope/model/safetensors.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"
#include "server/model/safetensors_header_internal.h"

namespace moescope::model {
namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

// The length field of a file that has at least kLengthBytes bytes.
absl::StatusOr<std::int64_t> HeaderLength(absl::string_view bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  const auto file_bytes = static_cast<std::int64_t>(bytes.size());
  if (length > kMaxHeaderBytes) {
    return absl::DataLossError(absl::StrCat("header length ", length,
                                            " at offset 0 is above ",
                                            kMaxHeaderBytes));
  }
  const auto signed_length = static_cast<std::int64_t>(length);
  if (signed_length > file_bytes - kLengthBytes) {
    return absl::DataLossError(absl::StrCat("header length ", length,
                                            " at offset 0 reaches beyond the "
                                            "file's ", file_bytes, " bytes"));
  }
  return signed_length;
}

}  // namespace

std::int64_t DtypeSize(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBool:
    case TensorDtype::kU8:
    case TensorDtype::kI8:
    case TensorDtype::kF8E4M3:
    case TensorDtype::kF8E5M2:
      return 1;
    case TensorDtype::kI16:
    case TensorDtype::kU16:
    case TensorDtype::kF16:
    case TensorDtype::kBF16:
      return 2;
    case TensorDtype::kI32:
    case TensorDtype::kU32:
    case TensorDtype::kF32:
      return 4;
    case TensorDtype::kI64:
    case TensorDtype::kU64:
    case TensorDtype::kF64:
      return 8;
  }
  return 0;
}

const char* DtypeName(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBool: return "BOOL";
    case TensorDtype::kU8: return "U8";
    case TensorDtype::kI8: return "I8";
    case TensorDtype::kF8E4M3: return "F8_E4M3";
    case TensorDtype::kF8E5M2: return "F8_E5M2";
    case TensorDtype::kI16: return "I16";
    case TensorDtype::kU16: return "U16";
    case TensorDtype::kF16: return "F16";
    case TensorDtype::kBF16: return "BF16";
    case TensorDtype::kI32: return "I32";
    case TensorDtype::kU32: return "U32";
    case TensorDtype::kF32: return "F32";
    case TensorDtype::kI64: return "I64";
    case TensorDtype::kU64: return "U64";
    case TensorDtype::kF64: return "F64";
  }
  return "";
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  const std::string name = internal::FileName(path);
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  MOESCOPE_ASSIGN_OR_RETURN(file->mapped_, MappedFile::Open(path));
  if (file->file_bytes() < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(name, ": ", file->file_bytes(),
                     " bytes are too few for the header length at offset 0"));
  }
  const absl::Status status = file->ReadHeader();
  if (!status.ok()) return Annotate(status, name);
  return std::shared_ptr<const SafetensorsFile>(std::move(file));
}

absl::Status SafetensorsFile::ReadHeader() {
  const absl::string_view bytes = mapped_->bytes();
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t header_bytes,
                            HeaderLength(bytes));
  const std::int64_t data_start = kLengthBytes + header_bytes;
  const absl::string_view text =
      bytes.substr(kLengthBytes, static_cast<std::size_t>(header_bytes));
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::SafetensorsHeader header,
      internal::ParseSafetensorsHeader(text, file_bytes() - data_start));
  metadata_ = std::move(header.metadata);
  const auto* const data =
      reinterpret_cast<const std::byte*>(bytes.data()) + data_start;
  for (auto& [name, tensor] : header.tensors) {
    TensorEntry entry;
    entry.name = name;
    entry.dtype = tensor.dtype;
    entry.shape = std::move(tensor.shape);
    entry.data = data + tensor.begin;
    entry.size_bytes = tensor.end - tensor.begin;
    tensors_.emplace_hint(tensors_.end(), name, std::move(entry));
  }
  return absl::OkStatus();
}

}  // namespace moescope::model
