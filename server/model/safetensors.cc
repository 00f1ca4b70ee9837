#include "moescope/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"
#include "server/model/safetensors_header_internal.h"

namespace moescope::model {
namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

// The length field of a file that has at least kLengthBytes bytes.
absl::StatusOr<std::int64_t> HeaderLength(const unsigned char* bytes,
                                          std::int64_t file_bytes) {
  std::uint64_t length = 0;
  for (int i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
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
  // O_NONBLOCK: a named pipe must not hold us up before we see what it is.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ErrnoStatus(errno, name);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, name);
  if (!S_ISREG(info.st_mode)) {
    return absl::DataLossError(absl::StrCat(name, ": not a regular file"));
  }
  if (info.st_size < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(name, ": ", info.st_size,
                     " bytes are too few for the header length at offset 0"));
  }
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path;
  file->file_bytes_ = info.st_size;
  void* mapping = mmap(nullptr, static_cast<std::size_t>(info.st_size),
                       PROT_READ, MAP_SHARED, fd, 0);
  if (mapping == MAP_FAILED) return ErrnoStatus(errno, name);
  file->mapping_ = mapping;
  const absl::Status status = file->ReadHeader();
  if (!status.ok()) return Annotate(status, name);
  return std::shared_ptr<const SafetensorsFile>(std::move(file));
}

absl::Status SafetensorsFile::ReadHeader() {
  const auto* bytes = static_cast<const unsigned char*>(mapping_);
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t header_bytes,
                            HeaderLength(bytes, file_bytes_));
  const std::int64_t data_start = kLengthBytes + header_bytes;
  const absl::string_view text(static_cast<const char*>(mapping_) + kLengthBytes,
                               static_cast<std::size_t>(header_bytes));
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::SafetensorsHeader header,
      internal::ParseSafetensorsHeader(text, file_bytes_ - data_start));
  metadata_ = std::move(header.metadata);
  const std::byte* data =
      static_cast<const std::byte*>(mapping_) + data_start;
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

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) {
    munmap(mapping_, static_cast<std::size_t>(file_bytes_));
  }
}

}  // namespace moescope::model
