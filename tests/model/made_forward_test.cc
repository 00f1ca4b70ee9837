// What tests/testdata/make_checkpoint writes can be computed with.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <vector>

#include "tests/model/forward_testing.h"
#include "tests/model/make_checkpoint.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

// The arguments of everything that the tool can write: each family as it comes,
// and the other forms that some have.
std::vector<std::string> Forms() {
  std::vector<std::string> forms = FamilyNames();
  forms.insert(forms.end(), {"llama4_text", "deepseek_v3 --dtype fp8",
                             "gpt_oss --dtype mxfp4", "mixtral --fused",
                             "qwen2_moe --fused", "qwen3_moe --fused",
                             "olmoe --fused", "mixtral --dtype f16",
                             "mixtral --dtype f32"});
  return forms;
}

// "" when all values are finite and those of no tensor are all alike.
std::string FirstUnlikely(const std::map<std::string, at::Tensor>& values) {
  for (const auto& [name, value] : values) {
    if (!at::isfinite(value).all().item<bool>()) return name + ": not finite";
    if (value.is_floating_point() &&
        value.min().item<float>() == value.max().item<float>()) {
      return name + ": one value throughout";
    }
  }
  return "";
}

class MadeForwardTest : public testing::TestWithParam<std::string> {};

TEST_P(MadeForwardTest, AllValuesOfAPassAreFinite) {
  const ScratchFolder scratch;
  ASSERT_EQ(
      MakeCheckpoint("--family " + GetParam() + " --out " + scratch.path()), 0);
  const auto model = LoadModel(scratch.path());
  ASSERT_NE(model, nullptr);

  const auto shown = RunForward(*model, MakeSequences({24, 9}, 128),
                                RequestAll(*model), 1);

  EXPECT_EQ(shown.at("logits").sizes(), (std::vector<std::int64_t>{33, 128}));
  EXPECT_EQ(FirstUnlikely(shown), "");
}

std::string Name(const testing::TestParamInfo<std::string>& form) {
  std::string name = form.param;
  std::replace_if(
      name.begin(), name.end(),
      [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Forms, MadeForwardTest, testing::ValuesIn(Forms()),
                         &Name);

}  // namespace
}  // namespace moescope::model
