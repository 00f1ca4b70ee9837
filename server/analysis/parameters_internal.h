#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "moescope/spec/schema.h"
#include "moescope/spec/token_input.h"

namespace moescope::analysis::internal {

/// What a parameter of each type is called, and `value` as JSON.
spec::ParameterInfo Describe(bool value);
spec::ParameterInfo Describe(std::int64_t value);
spec::ParameterInfo Describe(const std::string& value);
spec::ParameterInfo Describe(const std::vector<std::int64_t>& value);
spec::ParameterInfo Describe(const std::vector<double>& value);
spec::ParameterInfo Describe(const std::vector<std::string>& value);
spec::ParameterInfo Describe(const spec::TokenInput& value);

/// Every field of `Spec` with its default; `meanings` by name.
template <class Spec>
std::vector<spec::ParameterInfo> DescribeParameters(
    const std::map<std::string, std::string>& meanings) {
  std::vector<spec::ParameterInfo> parameters;
  const Spec defaults;
  Spec::VisitFields(defaults, [&](const char* name, const auto& value) {
    spec::ParameterInfo info = Describe(value);
    info.name = name;
    const auto meaning = meanings.find(info.name);
    info.meaning = meaning == meanings.end() ? "" : meaning->second;
    parameters.push_back(std::move(info));
  });
  return parameters;
}

/// Meanings of the parameters that several analyses have.
extern const char* const kModelMeaning;
extern const char* const kInputMeaning;
extern const char* const kLayersMeaning;
extern const char* const kProjectionsMeaning;
extern const char* const kParticipantsMeaning;
extern const char* const kIncludeSharedMeaning;
extern const char* const kBaselineMeaning;
extern const char* const kBlockTokensMeaning;

}  // namespace moescope::analysis::internal
