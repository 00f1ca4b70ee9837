#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/string_view.h"

#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::spec {

// Parameters of analyses as people and clients see them: the fields of a Spec.
// Threads: all functions are safe.

/// What a field of type T is called: "int64", "list of string", "token input".
template <class T>
constexpr absl::string_view ParameterTypeName() {
  if constexpr (std::is_same_v<T, bool>) {
    return "bool";
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return "int64";
  } else if constexpr (std::is_same_v<T, double>) {
    return "double";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "string";
  } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
    return "list of int64";
  } else if constexpr (std::is_same_v<T, std::vector<double>>) {
    return "list of double";
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    return "list of string";
  } else {
    static_assert(std::is_same_v<T, TokenInput>, "a field type without a name");
    return "token input";
  }
}

/// Name, type and default (as JSON; a token input: null) of every parameter, in
/// the order of VisitFields; `meaning` is left empty.
std::vector<ParameterInfo> DescribeParameters(const AnalysisSpec& defaults);

}  // namespace moescope::spec
