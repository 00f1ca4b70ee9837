#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Le;

spec::Array Filled(std::string name, std::int64_t count) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int64_t>(i);
  }
  return spec::MakeArray(std::move(name), {count}, absl::MakeConstSpan(values));
}

std::vector<v1::ResultSlice> Slices(const spec::Chunk& chunk,
                                    std::int64_t number,
                                    std::int64_t max_bytes) {
  std::vector<v1::ResultSlice> slices;
  EXPECT_TRUE(ForEachSlice(chunk, number, max_bytes,
                           [&slices](const v1::ResultSlice& slice) {
                             slices.push_back(slice);
                             return absl::OkStatus();
                           })
                  .ok());
  return slices;
}

// All but the last slice complete no chunk.
spec::Chunk Assembled(const std::vector<v1::ResultSlice>& slices,
                      ChunkAssembler& assembler) {
  spec::Chunk chunk;
  for (const v1::ResultSlice& slice : slices) {
    const auto added = assembler.Add(slice);
    EXPECT_TRUE(added.ok()) << added.status();
    EXPECT_EQ(added->has_value(), slice.last_of_chunk());
    chunk = added->value_or(spec::Chunk());
  }
  return chunk;
}

TEST(SlicesTest, ASmallChunkIsOneSlice) {
  const spec::Chunk chunk = {{Filled("a", 3), spec::MakeScalar("s", 1)}};
  const auto slices = Slices(chunk, 4, kMaxSliceBytes);
  ASSERT_EQ(slices.size(), 1U);
  EXPECT_EQ(slices[0].chunk(), 4);
  EXPECT_EQ(slices[0].arrays_size(), 2);
  EXPECT_TRUE(slices[0].last_of_chunk());
}

TEST(SlicesTest, NoSliceExceedsTheLimitAndAllArraysComeBack) {
  const spec::Chunk chunk = {{Filled("first", 200'001), Filled("second", 0),
                              Filled("third", 131'072),
                              spec::MakeScalar("s", 2.5)}};
  const auto slices = Slices(chunk, 0, kMaxSliceBytes);
  std::vector<std::int64_t> sizes;
  for (const v1::ResultSlice& slice : slices) {
    sizes.push_back(static_cast<std::int64_t>(slice.ByteSizeLong()));
  }
  EXPECT_THAT(sizes, Each(Le(kMaxSliceBytes - 16)));
  EXPECT_EQ(slices.size(), 3U);

  ChunkAssembler assembler;
  const spec::Chunk back = Assembled(slices, assembler);

  ASSERT_EQ(back.arrays.size(), 4U);
  EXPECT_EQ(back.arrays[0].bytes, chunk.arrays[0].bytes);
  EXPECT_EQ(back.arrays[1].bytes, "");
  EXPECT_EQ(back.arrays[2].bytes, chunk.arrays[2].bytes);
  EXPECT_EQ(back.arrays[3].bytes, chunk.arrays[3].bytes);
  EXPECT_EQ(assembler.next_chunk(), 1);
}

TEST(SlicesTest, CutsNeedNotFallBetweenNumbers) {
  const spec::Chunk chunk = {{Filled("a", 40)}};
  const auto slices = Slices(chunk, 0, 64 + 1 + 10 + 48 + 101);
  EXPECT_EQ(slices.size(), 4U);
  EXPECT_EQ(slices[1].arrays(0).offset(), 101);
  ChunkAssembler assembler;
  EXPECT_EQ(Assembled(slices, assembler).arrays.at(0).bytes,
            chunk.arrays[0].bytes);
}

TEST(SlicesTest, AnEmptyChunkStillComes) {
  const auto slices = Slices({}, 9, kMaxSliceBytes);
  ASSERT_EQ(slices.size(), 1U);
  ChunkAssembler assembler(9);
  EXPECT_TRUE(Assembled(slices, assembler).arrays.empty());
  EXPECT_EQ(assembler.next_chunk(), 10);
}

TEST(SlicesTest, StopAtTheReadersError) {
  const absl::Status status = ForEachSlice(
      {{Filled("a", 3)}}, 0, kMaxSliceBytes, [](const v1::ResultSlice&) {
        return absl::CancelledError("the reader left");
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST(ChunkAssemblerTest, BeginsAChunkAgainAfterALostStream) {
  const spec::Chunk chunk = {{Filled("a", 200'000)}};
  const auto slices = Slices(chunk, 3, kMaxSliceBytes);
  ChunkAssembler assembler(3);
  ASSERT_TRUE(assembler.Add(slices[0]).ok());
  EXPECT_TRUE(assembler.in_chunk());

  assembler.Restart();

  EXPECT_FALSE(assembler.in_chunk());
  EXPECT_EQ(assembler.next_chunk(), 3);
  EXPECT_EQ(Assembled(slices, assembler).arrays.at(0).bytes,
            chunk.arrays[0].bytes);
}

TEST(ChunkAssemblerTest, RefusesAnotherChunkThanExpected) {
  ChunkAssembler assembler;
  const absl::Status status =
      assembler.Add(Slices({}, 1, kMaxSliceBytes)[0]).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("expected was 0"));
}

TEST(ChunkAssemblerTest, RefusesAGapBetweenSlices) {
  const auto slices = Slices({{Filled("a", 400'000)}}, 0, kMaxSliceBytes);
  ASSERT_EQ(slices.size(), 4U);
  ChunkAssembler assembler;
  ASSERT_TRUE(assembler.Add(slices[0]).ok());
  const absl::Status status = assembler.Add(slices[2]).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"a\""));
}

TEST(ChunkAssemblerTest, RefusesAnIncompleteArray) {
  auto slices = Slices({{Filled("a", 3)}}, 0, kMaxSliceBytes);
  slices[0].mutable_arrays(0)->set_shape(0, 4);
  ChunkAssembler assembler;
  const absl::Status status = assembler.Add(slices[0]).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("24 of 32 bytes"));
}

TEST(ChunkAssemblerTest, RefusesMoreBytesThanTheShapeHolds) {
  auto slices = Slices({{Filled("a", 3)}}, 0, kMaxSliceBytes);
  slices[0].mutable_arrays(0)->set_shape(0, 2);
  ChunkAssembler assembler;
  EXPECT_EQ(assembler.Add(slices[0]).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(ChunkAssemblerTest, RefusesShapesThatNoArrayHas) {
  auto slices = Slices({{Filled("a", 3)}}, 0, kMaxSliceBytes);
  slices[0].mutable_arrays(0)->set_shape(
      0, std::numeric_limits<std::int64_t>::max());
  ChunkAssembler overflow;
  EXPECT_EQ(overflow.Add(slices[0]).status().code(),
            absl::StatusCode::kDataLoss);
  slices[0].mutable_arrays(0)->set_shape(0, -1);
  ChunkAssembler negative;
  EXPECT_EQ(negative.Add(slices[0]).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace moescope::codec
