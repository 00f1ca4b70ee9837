#include "moescope/spec/array.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace moescope::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ArrayTest, BytesAreLittleEndianRowMajor) {
  const std::vector<float> values = {1.0F, -2.0F};
  const Array array = MakeArray("a", {2}, absl::MakeConstSpan(values));
  EXPECT_EQ(array.bytes, std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8));
  EXPECT_TRUE(array.Validate().ok());
}

TEST(ArrayTest, AScalarHasNoDimensionsAndOneElement) {
  const Array scalar = MakeScalar("s", 0.5);
  EXPECT_TRUE(scalar.shape.empty());
  EXPECT_EQ(scalar.num_elements(), 1);
  EXPECT_THAT(ToDoubles(scalar), ElementsAre(0.5));
  EXPECT_THAT(*ToInt64s(MakeCount("c", 7)), ElementsAre(7));
}

TEST(ArrayTest, RefusesBytesThatDoNotFillTheShape) {
  Array array = MakeScalar("s", 0.5);
  array.shape = {3};
  EXPECT_THAT(std::string(array.Validate().message()),
              HasSubstr("s: 8 bytes do not fill float64 [3]"));
}

TEST(ArrayTest, RefusesShapesThatOverflow) {
  Array array = MakeScalar("s", 0.5);
  array.shape = {std::int64_t{1} << 40, std::int64_t{1} << 40};
  EXPECT_EQ(array.Validate().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ArrayTest, CountsAreNotReadFromReals) {
  EXPECT_EQ(ToInt64s(MakeScalar("s", 1.0)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moescope::spec
