#include "client/export/result_document.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/export/npz.h"
#include "client/export/safetensors.h"
#include "client/export/text_formats.h"

#include "moescope/base/status_macros.h"

namespace moescope::client {
namespace {

const std::vector<std::pair<std::string, FileFormat>>& Formats() {
  static const auto* const formats =
      new std::vector<std::pair<std::string, FileFormat>>{
          {"safetensors", FileFormat::kSafetensors},
          {"npz", FileFormat::kNpz},
          {"json", FileFormat::kJson},
          {"jsonl", FileFormat::kJsonLines},
          {"csv", FileFormat::kCsv}};
  return *formats;
}

}  // namespace

void AddArrays(std::vector<spec::Array> arrays, ResultDocument& document) {
  std::set<std::string> names;
  for (const spec::Array& array : document.arrays) {
    names.insert(array.name);
  }
  for (spec::Array& array : arrays) {
    if (names.insert(array.name).second) {
      document.arrays.push_back(std::move(array));
    }
  }
}

absl::StatusOr<FileFormat> ParseFileFormat(absl::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, format] : Formats()) {
    if (name == known) {
      return format;
    }
    names.push_back(known);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown file format \"", name,
                   "\"; allowed: ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<FileFormat> FormatOfPath(absl::string_view path) {
  const size_t slash = path.find_last_of('/');
  const absl::string_view name =
      slash == absl::string_view::npos ? path : path.substr(slash + 1);
  const size_t dot = name.find_last_of('.');
  return ParseFileFormat(dot == absl::string_view::npos ? ""
                                                        : name.substr(dot + 1));
}

absl::StatusOr<std::string> Encode(const ResultDocument& document,
                                   FileFormat format) {
  for (const spec::Array& array : document.arrays) {
    MOESCOPE_RETURN_IF_ERROR(array.Validate());
  }
  switch (format) {
    case FileFormat::kSafetensors:
      return SafetensorsBytes(document);
    case FileFormat::kNpz:
      return NpzBytes(document);
    case FileFormat::kJson:
      return JsonText(document);
    case FileFormat::kJsonLines:
      return JsonLinesText(document);
    case FileFormat::kCsv:
      return CsvText(document);
  }
  return absl::InternalError("a file format without a writer");
}

}  // namespace moescope::client
