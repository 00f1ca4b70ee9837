#include "moescope/spec/parameters.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope::spec {
namespace {

using ::testing::ElementsAre;

TEST(DescribeParametersTest, GivesNamesTypesAndDefaultsInOrder) {
  std::vector<std::string> lines;
  for (const ParameterInfo& info :
       DescribeParameters(ActivationStatisticsSpec())) {
    lines.push_back(info.name + " | " + info.type + " | " + info.default_value);
  }
  EXPECT_THAT(lines,
              ElementsAre("model | string | \"\"", "input | token input | null",
                          "layers | list of int64 | []",
                          "thresholds | list of double | [0.001]",
                          "histogram | list of double | []",
                          "top_tokens | int64 | 0",
                          "neuron_layers | list of int64 | []",
                          "block_tokens | int64 | 8192"));
}

TEST(DescribeParametersTest, ShowsWhatTheSpecHoldsAsJson) {
  ExpertSimilaritySpec spec;
  spec.layers = {0, 3};
  spec.participants = {"0", "S"};
  spec.include_shared = true;
  const std::vector<ParameterInfo> parameters = DescribeParameters(spec);
  EXPECT_EQ(parameters.at(1).default_value, "[0, 3]");
  EXPECT_EQ(parameters.at(4).type, "list of string");
  EXPECT_EQ(parameters.at(4).default_value, "[\"0\", \"S\"]");
  EXPECT_EQ(parameters.at(5).type, "bool");
  EXPECT_EQ(parameters.at(5).default_value, "true");
}

}  // namespace
}  // namespace moescope::spec
