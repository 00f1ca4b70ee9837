#include "moescope/model/product_choice.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "tests/testing/scratch_folder.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::model {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<numerics::ProductRates> Fast() {
  return numerics::ProductRates{90, 200};
}
absl::StatusOr<numerics::ProductRates> Slow() {
  return numerics::ProductRates{120, 70};
}
absl::StatusOr<numerics::ProductRates> NotAgain() {
  return absl::InternalError("measured again");
}

std::string TextOf(const ScratchFolder& folder) {
  return ReadFile(folder / "processor.json", 1 << 16).value_or("");
}

TEST(ProductChoiceTest, TakesTheFasterKind) {
  const ScratchFolder fast;
  const ScratchFolder slow;

  EXPECT_TRUE(LoadOrMeasureProductChoice(fast.path(), Fast)->bf16());
  EXPECT_FALSE(LoadOrMeasureProductChoice(slow.path(), Slow)->bf16());
  EXPECT_THAT(TextOf(fast), HasSubstr("\"neuron_products\": \"bf16\""));
  EXPECT_THAT(TextOf(slow), HasSubstr("\"neuron_products\": \"fp32\""));
}

TEST(ProductChoiceTest, KeepsWhatWasMeasured) {
  const ScratchFolder folder;
  const auto first = LoadOrMeasureProductChoice(folder.path(), Slow);
  ASSERT_TRUE(first.ok()) << first.status();

  const auto second = LoadOrMeasureProductChoice(folder.path(), NotAgain);

  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->rates.fp32_gflops, 120);
  EXPECT_EQ(second->rates.bf16_gflops, 70);
  EXPECT_EQ(second->processor, first->processor);
  EXPECT_EQ(second->libraries, first->libraries);
}

TEST(ProductChoiceTest, MeasuresAgainOnAnotherProcessor) {
  const ScratchFolder folder;
  const auto first = LoadOrMeasureProductChoice(folder.path(), Slow);
  ASSERT_TRUE(first.ok()) << first.status();
  std::string text = TextOf(folder);
  text.replace(text.find("\"processor\": \""), 14, "\"processor\": \"Other ");
  folder.Write("processor.json", text);

  const auto second = LoadOrMeasureProductChoice(folder.path(), Fast);

  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->bf16());
  EXPECT_EQ(second->processor, first->processor);
}

TEST(ProductChoiceTest, MeasuresAgainWithOtherLibraries) {
  const ScratchFolder folder;
  ASSERT_TRUE(LoadOrMeasureProductChoice(folder.path(), Slow).ok());
  std::string text = TextOf(folder);
  text.replace(text.find("torch "), 6, "torch 0");
  folder.Write("processor.json", text);

  EXPECT_TRUE(LoadOrMeasureProductChoice(folder.path(), Fast)->bf16());
}

TEST(ProductChoiceTest, MeasuresAgainWhereTheFileIsDamaged) {
  const ScratchFolder folder;
  folder.Write("processor.json", "{\"processor\": 3");

  EXPECT_TRUE(LoadOrMeasureProductChoice(folder.path(), Fast)->bf16());
  EXPECT_TRUE(LoadOrMeasureProductChoice(folder.path(), NotAgain).ok());
}

TEST(ProductChoiceTest, SaysThatTheFolderCannotBeWritten) {
  const auto choice = LoadOrMeasureProductChoice("/nonexistent/folder", Fast);

  EXPECT_EQ(choice.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrorDetails(choice.status()).fields[0].field, "data_dir");
}

TEST(ProductChoiceTest, KeepsNothingWhereMeasuringFails) {
  const ScratchFolder folder;

  EXPECT_EQ(LoadOrMeasureProductChoice(folder.path(), NotAgain).status().code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(TextOf(folder), "");
}

TEST(ProductChoiceTest, DecidesHowNeuronsAreMultiplied) {
  const ScratchFolder folder;
  ASSERT_TRUE(ApplyProductChoice(folder.path()).ok());

  const auto kept = LoadOrMeasureProductChoice(folder.path(), NotAgain);

  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_GT(kept->rates.fp32_gflops, 0);
  EXPECT_EQ(numerics::NeuronProductType(), kept->bf16() ? "bf16" : "fp32");
}

}  // namespace
}  // namespace moescope::model
