#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/spec/array.h"

namespace moescope::client {

/// A complete result as it goes into a file: arrays under unique names, and the
/// provenance as strings.
struct ResultDocument {
  std::vector<spec::Array> arrays;
  std::map<std::string, std::string> metadata;
};

/// Adds `arrays` to `document`; one whose name is there already is left out.
void AddArrays(std::vector<spec::Array> arrays, ResultDocument& document);

enum class FileFormat { kSafetensors, kNpz, kJson, kJsonLines, kCsv };

/// The format called `name`: "safetensors", "npz", "json", "jsonl", "csv".
/// Errors: INVALID_ARGUMENT with the allowed names.
absl::StatusOr<FileFormat> ParseFileFormat(absl::string_view name);

/// The format that the extension of `path` names. Errors: as ParseFileFormat.
absl::StatusOr<FileFormat> FormatOfPath(absl::string_view path);

/// The bytes of a file of `format`; equal documents give equal bytes.
/// Errors: INVALID_ARGUMENT (an array whose bytes do not fit its shape),
/// RESOURCE_EXHAUSTED (more than a zip archive without extensions holds).
absl::StatusOr<std::string> Encode(const ResultDocument& document,
                                   FileFormat format);

}  // namespace moescope::client
