#pragma once

#include <map>
#include <string>
#include <vector>

#include "moescope/spec/parameters.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis::internal {

/// Every field of `Spec` with its default; `meanings` by name.
template <class Spec>
std::vector<spec::ParameterInfo> DescribeParameters(
    const std::map<std::string, std::string>& meanings) {
  std::vector<spec::ParameterInfo> parameters =
      spec::DescribeParameters(Spec());
  for (spec::ParameterInfo& info : parameters) {
    const auto meaning = meanings.find(info.name);
    info.meaning = meaning == meanings.end() ? "" : meaning->second;
  }
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
