#include "moescope/spec/array.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
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

TEST(ConcatenateTest, JoinsPartsOfOneNameAlongTheFirstAxis) {
  const std::vector<std::int64_t> one = {1, 2};
  const std::vector<std::int64_t> two = {3, 4, 5, 6};
  const auto arrays = Concatenate(
      {{{MakeArray("ids", {1, 2}, absl::MakeConstSpan(one)),
         MakeScalar("s", 1)}},
       {{MakeArray("ids", {2, 2}, absl::MakeConstSpan(two))}}});
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  ASSERT_EQ(arrays->size(), 2U);
  EXPECT_THAT((*arrays)[0].shape, ElementsAre(3, 2));
  EXPECT_THAT(*ToInt64s((*arrays)[0]), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ((*arrays)[1].name, "s");
}

TEST(ConcatenateTest, RefusesPartsOfAnotherShape) {
  const std::vector<std::int64_t> values = {1, 2};
  const absl::Status status =
      Concatenate({{{MakeArray("a", {2}, absl::MakeConstSpan(values))}},
                   {{MakeArray("a", {1, 2}, absl::MakeConstSpan(values))}}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a: a part is int64"));
}

TEST(ConcatenateTest, RefusesAScalarThatComesTwice) {
  const absl::Status status =
      Concatenate({{{MakeScalar("s", 1)}}, {{MakeScalar("s", 1)}}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("s: a scalar"));
}

}  // namespace
}  // namespace moescope::spec
