#include "moescope/spec/schema.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/spec/analysis_spec.h"

namespace moescope::spec {
namespace {

bool ConsumeDigits(absl::string_view& name) {
  std::size_t count = 0;
  while (count < name.size() &&
         absl::ascii_isdigit(static_cast<unsigned char>(name[count]))) {
    ++count;
  }
  name.remove_prefix(count);
  return count > 0;
}

bool ConsumeProjection(absl::string_view& name) {
  for (const std::string& projection : ProjectionNames()) {
    if (absl::ConsumePrefix(&name, projection)) {
      return true;
    }
  }
  return false;
}

bool Matches(absl::string_view pattern, absl::string_view name) {
  while (!pattern.empty()) {
    if (absl::ConsumePrefix(&pattern, "{projection}")) {
      if (!ConsumeProjection(name)) {
        return false;
      }
    } else if (absl::ConsumePrefix(&pattern, "{layer}") ||
               absl::ConsumePrefix(&pattern, "{index}")) {
      if (!ConsumeDigits(name)) {
        return false;
      }
    } else if (!name.empty() && name[0] == pattern[0]) {
      name.remove_prefix(1);
      pattern.remove_prefix(1);
    } else {
      return false;
    }
  }
  return name.empty();
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
    const ArrayDeclaration* const declaration = Find(array.name);
    if (declaration == nullptr) {
      return absl::InternalError(
          absl::StrCat("\"", array.name, "\" is not declared"));
    }
    if (array.dtype != declaration->dtype ||
        array.shape.size() != declaration->shape.size()) {
      return absl::InternalError(absl::StrCat(
          "\"", array.name, "\" is ", DTypeName(array.dtype), " with ",
          array.shape.size(), " dimensions; declared are ",
          DTypeName(declaration->dtype), " and ", declaration->shape.size()));
    }
    const absl::Status status = array.Validate();
    if (!status.ok()) {
      return absl::InternalError(status.message());
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::spec
