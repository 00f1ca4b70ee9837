#include "moescope/model/pytorch_file.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"
#include "server/model/stored_zip_internal.h"
#include "server/model/tensor_pickle_internal.h"

namespace moescope::model {
namespace {

using Contents = std::map<std::string, absl::string_view>;

constexpr absl::string_view kPickleName = "/data.pkl";
// How a file of torch before 1.6 begins: protocol 2 and a number of 10 bytes.
constexpr absl::string_view kOldFormat("\x80\x02\x8a\x0a", 4);

// What stands before "data.pkl": the folder that all entries are in.
absl::StatusOr<std::string> FindFolder(const Contents& contents) {
  std::string folder;
  for (const auto& [name, content] : contents) {
    if (!absl::EndsWith(name, kPickleName)) continue;
    if (!folder.empty()) {
      return absl::DataLossError(absl::StrCat(
          "entries ", internal::QuoteName(folder + "data.pkl"), " and ",
          internal::QuoteName(name),
          ": there must be one data.pkl"));
    }
    folder = name.substr(0, name.size() - kPickleName.size() + 1);
  }
  if (folder.empty()) {
    return absl::DataLossError("has no entry data.pkl");
  }
  return folder;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const PytorchFile>> PytorchFile::Open(
    const std::string& path) {
  std::shared_ptr<PytorchFile> file(new PytorchFile);
  MOESCOPE_ASSIGN_OR_RETURN(file->mapped_, MappedFile::Open(path));
  const absl::Status status = file->Read();
  if (!status.ok()) return Annotate(status, internal::FileName(path));
  return std::shared_ptr<const PytorchFile>(std::move(file));
}

absl::Status PytorchFile::Read() {
  const absl::string_view bytes = mapped_->bytes();
  if (absl::StartsWith(bytes, kOldFormat)) {
    return absl::UnimplementedError(
        "the format before torch 1.6 (no zip file) is not supported");
  }
  MOESCOPE_ASSIGN_OR_RETURN(const Contents contents,
                            internal::ReadStoredZip(bytes));
  MOESCOPE_ASSIGN_OR_RETURN(const std::string folder, FindFolder(contents));
  const auto order = contents.find(folder + "byteorder");
  if (order != contents.end() && order->second != "little") {
    return absl::UnimplementedError(absl::StrCat(
        "byteorder: ", internal::QuoteName(order->second),
        " is not supported (little is)"));
  }
  const std::string data_folder = folder + "data/";
  Contents storages;
  for (const auto& [name, content] : contents) {
    if (absl::StartsWith(name, data_folder)) {
      storages.emplace(name.substr(data_folder.size()), content);
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      tensors_,
      internal::ReadTensorPickle(contents.at(folder + "data.pkl"), storages));
  return absl::OkStatus();
}

}  // namespace moescope::model
