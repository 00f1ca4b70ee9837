#include "moescope/spec/parameters.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace moescope::spec {
namespace {

std::string Json(bool value) { return value ? "true" : "false"; }
std::string Json(std::int64_t value) { return absl::StrCat(value); }
std::string Json(double value) { return absl::StrCat(value); }
// Defaults are plain words: nothing in them needs escaping.
std::string Json(const std::string& value) {
  return absl::StrCat("\"", value, "\"");
}
std::string Json(const TokenInput& /*value*/) { return "null"; }

template <class T>
std::string Json(const std::vector<T>& values) {
  return absl::StrCat(
      "[",
      absl::StrJoin(values, ", ",
                    [](std::string* out, const T& value) {
                      absl::StrAppend(out, Json(value));
                    }),
      "]");
}

struct Describer {
  std::vector<ParameterInfo> parameters;
  template <class T>
  void operator()(absl::string_view name, const T& value) {
    ParameterInfo info;
    info.name = std::string(name);
    info.type = std::string(ParameterTypeName<T>());
    info.default_value = Json(value);
    parameters.push_back(std::move(info));
  }
};

}  // namespace

std::vector<ParameterInfo> DescribeParameters(const AnalysisSpec& defaults) {
  Describer describer;
  std::visit(
      [&describer](const auto& spec) {
        std::decay_t<decltype(spec)>::VisitFields(spec, describer);
      },
      defaults);
  return std::move(describer.parameters);
}

}  // namespace moescope::spec
