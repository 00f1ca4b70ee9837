#include "moescope/spec/schema.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "moescope/spec/analysis_spec.h"

namespace moescope::spec {
namespace {

bool Matches(absl::string_view pattern, absl::string_view name);

// `rest` is the pattern after the placeholder.
bool MatchesPlaceholder(absl::string_view placeholder, absl::string_view rest,
                        absl::string_view name) {
  if (placeholder == "{projection}") {
    for (const std::string& projection : ProjectionNames()) {
      absl::string_view tail = name;
      if (absl::ConsumePrefix(&tail, projection) && Matches(rest, tail)) {
        return true;
      }
    }
    return false;
  }
  std::size_t digits = 0;
  while (digits < name.size() &&
         absl::ascii_isdigit(static_cast<unsigned char>(name[digits]))) {
    ++digits;
  }
  return digits > 0 && Matches(rest, name.substr(digits));
}

bool Matches(absl::string_view pattern, absl::string_view name) {
  const std::size_t open = pattern.find('{');
  if (open == absl::string_view::npos) {
    return pattern == name;
  }
  const std::size_t close = pattern.find('}', open);
  if (close == absl::string_view::npos) {
    return false;
  }
  if (!absl::ConsumePrefix(&name, pattern.substr(0, open))) {
    return false;
  }
  return MatchesPlaceholder(pattern.substr(open, close + 1 - open),
                            pattern.substr(close + 1), name);
}

bool FitsShape(const std::vector<std::string>& declared,
               const std::vector<std::int64_t>& shape) {
  if (declared.size() != shape.size()) {
    return false;
  }
  for (std::size_t i = 0; i < shape.size(); ++i) {
    std::int64_t fixed = 0;
    if (absl::SimpleAtoi(declared[i], &fixed) && fixed != shape[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

const ArrayDeclaration* ResultSchema::Find(absl::string_view name) const {
  for (const ArrayDeclaration& declaration : arrays) {
    if (Matches(declaration.pattern, name)) {
      return &declaration;
    }
  }
  return nullptr;
}

absl::Status ResultSchema::Check(const Chunk& chunk) const {
  for (const Array& array : chunk.arrays) {
    const ArrayDeclaration* declaration = Find(array.name);
    if (declaration == nullptr) {
      return absl::InternalError(
          absl::StrCat("array \"", array.name, "\" is not declared"));
    }
    if (array.dtype != declaration->dtype ||
        !FitsShape(declaration->shape, array.shape)) {
      return absl::InternalError(
          absl::StrCat("array \"", array.name, "\" is ", DTypeName(array.dtype),
                       " [", absl::StrJoin(array.shape, ", "),
                       "], declared as ", DTypeName(declaration->dtype), " [",
                       absl::StrJoin(declaration->shape, ", "), "]"));
    }
    if (absl::Status status = array.Validate(); !status.ok()) {
      return absl::InternalError(status.message());
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::spec
