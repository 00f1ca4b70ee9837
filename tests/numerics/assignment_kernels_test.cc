#include "server/numerics/assignment_kernels_internal.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/instruction_set.h"
#include "server/numerics/assignment_costs_internal.h"
#include "tests/numerics/assignment_instances.h"
#include "tests/numerics/assignment_testing.h"
#include "tests/numerics/plain_assignment.h"

namespace moescope::numerics {
namespace {

using ::testing::ElementsAre;

// Every instruction set against one lane at a time.
class AssignmentKernelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_EQ(ForceInstructionSetForTest(GetParam()), absl::OkStatus());
  }
  void TearDown() override {
    ASSERT_EQ(ForceInstructionSetForTest(""), absl::OkStatus());
  }
};

INSTANTIATE_TEST_SUITE_P(Sets, AssignmentKernelTest,
                         ::testing::ValuesIn(AvailableInstructionSets()),
                         TestName);

TEST_P(AssignmentKernelTest, RoundsHalvesToEven) {
  const float unit = 1.0F / 268435456.0F;
  const std::vector<float> values = {
      0.5F * unit, 1.5F * unit, -0.5F * unit, -2.5F * unit, 1.0F,  -3.5F,
      0.4F * unit, 0.6F * unit, 0.0F,         2.5F * unit,  0.25F, -0.25F,
      3.0F * unit, -unit,       7.5F * unit,  0.5F,         1.5F * unit,
      2.5F * unit};
  std::vector<std::int32_t> costs(values.size());
  ASSERT_TRUE(internal::QuantiseRun(values.data(), 18, kMaxSimilarity,
                                    costs.data()));
  EXPECT_THAT(costs, ElementsAre(0, -2, 0, 2, -268435456, 939524096, 0, -1, 0,
                                 -2, -67108864, 67108864, -3, 1, -8,
                                 -134217728, -2, -2));
}

TEST_P(AssignmentKernelTest, CollectsWhatIsBelow) {
  std::vector<std::int32_t> row(77);
  std::vector<std::int32_t> shift(77);
  for (std::size_t j = 0; j < row.size(); ++j) {
    row[j] = static_cast<std::int32_t>(j * 37 % 101);
    shift[j] = static_cast<std::int32_t>(j * 11 % 13) - 6;
  }
  std::vector<std::int32_t> expected;
  std::vector<std::int32_t> expected_each;
  for (std::int32_t j = 5; j < 70; ++j) {
    const auto at = static_cast<std::size_t>(j);
    if (row[at] - shift[at] < 30) {
      expected.push_back(j);
    }
    if (row[at] - 4 < shift[at]) {
      expected_each.push_back(j);
    }
  }
  std::vector<std::int32_t> found(row.size() + internal::kCollectPadding);
  found.resize(static_cast<std::size_t>(internal::CollectBelow(
      row.data(), shift.data(), 5, 70, 30, found.data())));
  EXPECT_EQ(found, expected);
  const std::vector<std::int64_t> wide(shift.begin(), shift.end());
  found.resize(row.size());
  found.resize(static_cast<std::size_t>(internal::CollectBelowWide(
      row.data(), wide.data(), 5, 70, 30, found.data())));
  EXPECT_EQ(found, expected);
  found.resize(row.size() + internal::kCollectPadding);
  found.resize(static_cast<std::size_t>(internal::CollectBelowEach(
      row.data(), 4, shift.data(), 5, 70, found.data())));
  EXPECT_EQ(found, expected_each);
}

// Numbers without order, some of them equal.
std::vector<std::int32_t> Scattered(std::int64_t count) {
  std::vector<std::int32_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<std::int32_t>(i * 7919 % 211) - 100);
  }
  return values;
}

TEST_P(AssignmentKernelTest, LowersMinimaOfColumnsAndOfGroups) {
  constexpr std::int64_t kCount = 117;
  const std::vector<std::int32_t> row = Scattered(kCount);
  const std::vector<std::int32_t> shift(kCount, 3);
  std::vector<std::int32_t> least(kCount, -40);
  std::vector<std::int32_t> groups(internal::kBoundGroups);
  internal::LowerMinima(row.data(), row.data(), 5, shift.data(), kCount,
                        least.data(), groups.data());
  std::vector<std::int32_t> expected;
  for (const std::int32_t cost : row) {
    expected.push_back(std::min(-40, cost - 5));
  }
  EXPECT_EQ(least, expected);
  // Whatever the groups are, the least number is in one of them, and each has a
  // number of the row.
  EXPECT_EQ(*std::min_element(groups.begin(), groups.end()),
            *std::min_element(row.begin(), row.end()) - 3);
  EXPECT_TRUE(std::all_of(groups.begin(), groups.end(), [&](std::int32_t g) {
    return std::find(row.begin(), row.end(), g + 3) != row.end();
  }));
}

TEST_P(AssignmentKernelTest, LeavesGroupsWithoutColumnsEmpty) {
  const std::vector<std::int32_t> row = {4, 2, 6};
  const std::vector<std::int32_t> shift = {0, 0, 5};
  std::vector<std::int32_t> least(3, 100);
  std::vector<std::int32_t> groups(internal::kBoundGroups);
  internal::LowerMinima(row.data(), row.data(), 1, shift.data(), 3,
                        least.data(), groups.data());
  std::sort(groups.begin(), groups.end());
  EXPECT_THAT(least, ElementsAre(3, 1, 5));
  EXPECT_THAT(std::vector<std::int32_t>(groups.begin(), groups.begin() + 3),
              ElementsAre(1, 2, 4));
  EXPECT_EQ(groups[3], std::numeric_limits<std::int32_t>::max());
}

TEST_P(AssignmentKernelTest, FindsTheNthOfGroups) {
  std::vector<std::int32_t> values = Scattered(internal::kBoundGroups);
  values[3] = values[20] = values[21];
  const std::int32_t fifth = internal::NthOfGroups(values.data(), 4);
  const std::int32_t last = internal::NthOfGroups(values.data(), 31);
  std::sort(values.begin(), values.end());
  EXPECT_EQ(fifth, values[4]);
  EXPECT_EQ(last, values[31]);
}

TEST_P(AssignmentKernelTest, FindsTheNthOfEachColumn) {
  constexpr std::int64_t kColumns = 21;
  constexpr std::int64_t kStride = 23;
  const std::vector<std::int32_t> values =
      Scattered(internal::kBoundGroups * kStride);
  std::vector<std::int32_t> found(kColumns);
  internal::NthOfEachColumn(values.data(), kStride, kColumns, 15,
                            found.data());
  std::vector<std::int32_t> expected;
  for (std::int64_t j = 0; j < kColumns; ++j) {
    std::vector<std::int32_t> column;
    for (std::int64_t g = 0; g < internal::kBoundGroups; ++g) {
      column.push_back(values[static_cast<std::size_t>(g * kStride + j)]);
    }
    std::sort(column.begin(), column.end());
    expected.push_back(column[15]);
  }
  EXPECT_EQ(found, expected);
}

// The columns that row i's arcs must have: its own, its best, and those that
// have it among their best, by sorting.
std::vector<std::int32_t> PlainArcs(const SimilarityMatrix& matrix,
                                    const std::vector<std::int32_t>& shift,
                                    std::int64_t i, std::int64_t count) {
  const std::int64_t n = matrix.size();
  using Candidate = std::pair<std::int64_t, std::int64_t>;
  const auto has = [&](std::vector<Candidate> all, std::int64_t place) {
    std::sort(all.begin(), all.end());
    all.resize(static_cast<std::size_t>(std::min(n, count)));
    return std::any_of(all.begin(), all.end(), [&](const Candidate& one) {
      return one.second == place;
    });
  };
  std::vector<Candidate> row;
  for (std::int64_t j = 0; j < n; ++j) {
    row.emplace_back(matrix.cost(i, j) - shift[static_cast<std::size_t>(j)],
                     (j - i + n) % n);
  }
  std::vector<std::int32_t> columns;
  for (std::int64_t j = 0; j < n; ++j) {
    std::vector<Candidate> column;
    for (std::int64_t k = 0; k < n; ++k) {
      column.emplace_back(
          matrix.cost(k, j) - shift[static_cast<std::size_t>(k)], k);
    }
    if (j == i || has(row, (j - i + n) % n) || has(column, i)) {
      columns.push_back(static_cast<std::int32_t>(j));
    }
  }
  return columns;
}

// Rows of 24 kinds whose arcs are those that sorting finds; rows and columns
// have the same shifts.
TEST_P(AssignmentKernelTest, ChoosesTheBestOfRowsAndColumnsWhateverTheMatrix) {
  constexpr std::int64_t kSize = 130;
  ThreadPool pool(2);
  internal::CoreMemory memory;
  for (const std::string& kind : InstanceKinds()) {
    const SimilarityMatrix matrix = Quantise(MakeInstance(kind, kSize, 11));
    std::vector<std::int32_t> shift = Scattered(kSize);
    internal::MemoryCosts costs(matrix, pool, memory);
    const auto core = costs.ChooseCore(shift, shift, 7, RunContext());
    ASSERT_EQ(core.status(), absl::OkStatus());
    for (const std::int64_t i : {0, 1, 64, 129}) {
      std::vector<std::int32_t> columns;
      for (const internal::Arc& arc :
           core->rows[static_cast<std::size_t>(i)]) {
        columns.push_back(arc.column);
        EXPECT_EQ(arc.cost, matrix.cost(i, arc.column));
      }
      EXPECT_EQ(columns, PlainArcs(matrix, shift, i, 7)) << kind << " " << i;
    }
  }
}

TEST_P(AssignmentKernelTest, FindsTheLeastDifferenceInTheTail) {
  const std::vector<std::int32_t> row(19, 5);
  std::vector<std::int64_t> shift(19, 1);
  EXPECT_EQ(internal::LeastDifference(row.data(), shift.data(), 19), 4);
  shift[18] = 9;
  EXPECT_EQ(internal::LeastDifference(row.data(), shift.data(), 19), -4);
}

TEST_P(AssignmentKernelTest, RelaxesOpenColumnsOnly) {
  const std::vector<std::int32_t> row = {9, 3, 7, 1, 3, 8, 9, 9, 9, 9, 2};
  const std::vector<std::int64_t> shift(11, 0);
  std::vector<std::int64_t> closed(11, 0);
  closed[3] = -1;
  std::vector<std::int64_t> distance(11, 100);
  distance[3] = 4;
  distance[10] = 11;
  std::vector<std::int64_t> previous(11, -1);
  EXPECT_EQ(internal::RelaxAll(row.data(), 10, 6,
                               {11, shift.data(), closed.data(),
                                distance.data(), previous.data()}),
            10);
  EXPECT_THAT(distance, ElementsAre(19, 13, 17, 4, 13, 18, 19, 19, 19, 19, 11));
  EXPECT_THAT(previous, ElementsAre(6, 6, 6, -1, 6, 6, 6, 6, 6, 6, -1));
}

TEST_P(AssignmentKernelTest, SpreadsOneUnitOverARow) {
  const std::vector<std::int32_t> row = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0,
                                         1, 2, 0, 1, 2, 0, 1, 2, 0};
  const std::vector<float> shift(19, 0.0F);
  std::vector<float> buffer(19);
  std::vector<float> sums(19, 1.0F);
  internal::AddTransportRow(row.data(), shift.data(), 19, -1.0F, buffer.data(),
                            sums.data());
  // 7 + 6/2 + 6/4 units.
  EXPECT_NEAR(sums[0], 1 + 1 / 11.5, 1e-4);
  EXPECT_NEAR(sums[1], 1 + 0.5 / 11.5, 1e-4);
  EXPECT_NEAR(sums[17], 1 + 0.25 / 11.5, 1e-4);
}

TEST_P(AssignmentKernelTest, SolvesWithTheSameObjective) {
  SimilarityMatrix matrix = Quantise(DominantInstance(203, 16, 4.0F, 1));
  const auto found = Solve(matrix);
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(-found->objective_quantised, PlainLeastCost(matrix));
}

}  // namespace
}  // namespace moescope::numerics
