#include "server/numerics/tensor_costs_internal.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/numerics/assignment_kernels_internal.h"
#include "server/numerics/assignment_solver_internal.h"
#include "tests/numerics/assignment_instances.h"
#include "tests/numerics/assignment_testing.h"
#include "tests/numerics/cancelling_costs.h"
#include "tests/numerics/plain_assignment.h"
#include "tests/numerics/tensor_testing.h"

namespace moescope::numerics {
namespace {

using internal::Arc;
using internal::TensorCosts;
using ::testing::ElementsAre;

// Several blocks, the last one not full, of most sizes below.
constexpr std::int64_t kSmallBlock = 1700;

at::Tensor OnDevice(const SimilarityMatrix& matrix) {
  const std::int64_t n = matrix.size();
  return at::from_blob(const_cast<std::int32_t*>(matrix.costs()), {n, n},
                       at::TensorOptions().dtype(at::kInt))
      .to(at::Device(TestDevice()))
      .clone();
}

// The costs of one matrix in memory and on the device.
struct BothCosts {
  explicit BothCosts(const Instance& instance)
      : matrix(Quantise(instance)),
        near(matrix, pool, memory),
        far(OnDevice(matrix), kSmallBlock) {}

  ThreadPool pool{1};
  internal::CoreMemory memory;
  const SimilarityMatrix matrix;
  internal::MemoryCosts near;
  TensorCosts far;
};

std::vector<std::pair<std::int32_t, std::int32_t>> Pairs(
    const std::vector<Arc>& arcs) {
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  for (const Arc& arc : arcs) {
    pairs.emplace_back(arc.column, arc.cost);
  }
  return pairs;
}

std::vector<std::vector<std::pair<std::int32_t, std::int32_t>>> Lists(
    const internal::Core& core) {
  std::vector<std::vector<std::pair<std::int32_t, std::int32_t>>> lists;
  for (const std::vector<Arc>& arcs : core.rows) {
    lists.push_back(Pairs(arcs));
  }
  return lists;
}

// Each row with its entries by column.
std::vector<std::vector<std::pair<std::int32_t, std::int32_t>>> Lists(
    const std::vector<internal::Violation>& violations) {
  std::vector<std::vector<std::pair<std::int32_t, std::int32_t>>> lists;
  for (const internal::Violation& violation : violations) {
    lists.push_back(Pairs(violation.arcs));
    std::sort(lists.back().begin(), lists.back().end());
    lists.back().emplace_back(-1, static_cast<std::int32_t>(violation.row));
  }
  return lists;
}

std::vector<std::int32_t> Shifts(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<std::int32_t> draw(1 - internal::kMaxShift,
                                                   internal::kMaxShift - 1);
  std::vector<std::int32_t> shifts(static_cast<std::size_t>(n));
  std::generate(shifts.begin(), shifts.end(), [&] { return draw(random); });
  return shifts;
}

internal::Duals RandomDuals(std::int64_t n, std::int64_t magnitude) {
  std::mt19937 random(5);
  std::uniform_int_distribution<std::int64_t> draw(-magnitude, magnitude);
  internal::Duals duals;
  for (std::int64_t i = 0; i < n; ++i) {
    duals.row.push_back(draw(random));
    duals.column.push_back(draw(random));
  }
  return duals;
}

std::int64_t LeastCost(const SimilarityMatrix& matrix,
                       const internal::SolverOptions& options) {
  TensorCosts costs(OnDevice(matrix), kSmallBlock);
  auto solution = internal::SolveCosts(costs, options, RunContext());
  EXPECT_EQ(solution.status(), absl::OkStatus());
  const Assignment found = ToAssignment(*std::move(solution), costs);
  EXPECT_EQ(found.gap, 0);
  return -found.objective_quantised;
}

class TensorCostsKindTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Kinds, TensorCostsKindTest,
                         ::testing::ValuesIn(InstanceKinds()), TestName);

// How many instances of these sizes are solved with the objective of the plain
// method and proven.
int CountEqualToPlain(const std::string& kind,
                      const std::vector<std::int64_t>& sizes) {
  int equal = 0;
  unsigned seed = 0;
  for (const std::int64_t n : sizes) {
    const SimilarityMatrix matrix = Quantise(MakeInstance(kind, n, seed++));
    const bool same = LeastCost(matrix, internal::SolverOptions()) ==
                      PlainLeastCost(matrix);
    EXPECT_TRUE(same) << kind << ", n " << n;
    equal += same ? 1 : 0;
  }
  return equal;
}

TEST_P(TensorCostsKindTest, AreSolvedWithTheObjectiveOfThePlainMethod) {
  EXPECT_EQ(
      CountEqualToPlain(GetParam(), {1, 2, 3, 6, 16, 17, 42, 99, 150, 225}),
      10);
}

TEST_P(TensorCostsKindTest, AreSolvedOverWholeRows) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 90, 3));
  internal::SolverOptions options;
  options.max_rounds = options.max_rounds_after_transport = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(TensorCostsKindTest, AreSolvedFromTransport) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 90, 4));
  internal::SolverOptions options;
  options.hard_share = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(TensorCostsKindTest, GiveTheCoreThatMemoryGives) {
  BothCosts costs(MakeInstance(GetParam(), 130, 2));
  const std::vector<std::int32_t> zero(130, 0);

  const auto near = costs.near.ChooseCore(zero, zero, 16, RunContext());
  const auto far = costs.far.ChooseCore(zero, zero, 16, RunContext());

  ASSERT_EQ(far.status(), absl::OkStatus());
  EXPECT_EQ(Lists(*far), Lists(*near));
  EXPECT_EQ(far->unwanted, near->unwanted);
}

TEST_P(TensorCostsKindTest, GiveTheSameCoreAfterAnyShift) {
  BothCosts costs(MakeInstance(GetParam(), 61, 2));
  const std::vector<std::int32_t> rows = Shifts(61, 1);
  const std::vector<std::int32_t> columns = Shifts(61, 2);

  const auto near = costs.near.ChooseCore(rows, columns, 3, RunContext());
  const auto far = costs.far.ChooseCore(rows, columns, 3, RunContext());

  ASSERT_EQ(far.status(), absl::OkStatus());
  EXPECT_EQ(Lists(*far), Lists(*near));
}

TEST_P(TensorCostsKindTest, PriceAsMemoryDoes) {
  BothCosts costs(MakeInstance(GetParam(), 77, 3));
  const internal::Duals narrow = RandomDuals(77, std::int64_t{1} << 28);
  const internal::Duals wide = RandomDuals(77, std::int64_t{1} << 36);

  EXPECT_EQ(*costs.far.RowMinima(narrow.column, RunContext()),
            *costs.near.RowMinima(narrow.column, RunContext()));
  EXPECT_EQ(*costs.far.RowMinima(wide.column, RunContext()),
            *costs.near.RowMinima(wide.column, RunContext()));
  EXPECT_EQ(Lists(*costs.far.FindViolations(narrow, 5, RunContext())),
            Lists(*costs.near.FindViolations(narrow, 5, RunContext())));
  EXPECT_EQ(Lists(*costs.far.FindViolations(wide, 5, RunContext())),
            Lists(*costs.near.FindViolations(wide, 5, RunContext())));
}

TEST(TensorCostsTest, FindNothingThatDualsCover) {
  BothCosts costs(RandomInstance(50, 8, 1));
  const std::vector<std::int64_t> columns(50, 3);
  const auto rows = *costs.far.RowMinima(columns, RunContext());

  EXPECT_TRUE(
      costs.far.FindViolations({rows, columns}, 16, RunContext())->empty());
}

// Sums of 70 products of costs below 2^30 and factors below 4, in fp64.
TEST(TensorCostsTest, SumRowsAndColumns) {
  BothCosts costs(RandomInstance(70, 8, 1));
  std::mt19937 random(3);
  std::normal_distribution<double> draw;
  std::vector<double> x(70);
  std::generate(x.begin(), x.end(), [&] { return draw(random); });
  const auto near = [](const std::vector<double>& values) {
    return ::testing::Pointwise(::testing::DoubleNear(70 * 0x1p32 * 0x1p-52),
                                values);
  };

  EXPECT_THAT(*costs.far.RowSums(x, RunContext()),
              near(*costs.near.RowSums(x, RunContext())));
  EXPECT_THAT(*costs.far.ColumnSums(x, RunContext()),
              near(*costs.near.ColumnSums(x, RunContext())));
}

TEST(TensorCostsTest, HandOutRowsAndEntries) {
  BothCosts costs(RandomInstance(45, 8, 1));
  const auto row = [](internal::CostSource& source, std::int64_t i) {
    const std::int32_t* const begin = source.Row(i);
    return std::vector<std::int32_t>(begin, begin + source.size());
  };

  EXPECT_EQ(row(costs.far, 44), row(costs.near, 44));
  EXPECT_EQ(row(costs.far, 7), row(costs.near, 7));
  EXPECT_THAT(costs.far.Entries({3, 3, 44}, {0, 9, 44}),
              ElementsAre(costs.matrix.cost(3, 0), costs.matrix.cost(3, 9),
                          costs.matrix.cost(44, 44)));
  ASSERT_EQ(costs.far.BringRowsNear(RunContext()), absl::OkStatus());
  EXPECT_EQ(row(costs.far, 44), row(costs.near, 44));
  EXPECT_EQ(row(costs.far, 0), row(costs.near, 0));
}

// Transport is a start, but a good one: few rounds after it.
TEST(TensorCostsTest, StartADominantDirectionFromTransport) {
  const SimilarityMatrix matrix = Quantise(DominantInstance(600, 64, 3.0F, 4));
  TensorCosts costs(OnDevice(matrix));
  internal::SolverOptions options;
  options.hard_share = 0;

  const auto solution = internal::SolveCosts(costs, options, RunContext());

  ASSERT_EQ(solution.status(), absl::OkStatus());
  EXPECT_TRUE(solution->effort.transport);
  EXPECT_FALSE(solution->effort.dense);
  EXPECT_LE(solution->effort.rounds, 12);
}

TEST(TensorCostsTest, SortWhatSortingSolves) {
  const SimilarityMatrix matrix = Quantise(MakeInstance("rank one", 600, 7));
  TensorCosts costs(OnDevice(matrix));

  const auto solution = internal::SolveCosts(
      costs, internal::SolverOptions(), RunContext());

  ASSERT_EQ(solution.status(), absl::OkStatus());
  EXPECT_FALSE(solution->effort.transport);
  EXPECT_FALSE(solution->effort.dense);
}

// Whether every pass that a solution makes stops when cancelled.
bool StopsAtEveryPass(const SimilarityMatrix& matrix,
                      const internal::SolverOptions& options) {
  const RunContext wanted;
  CancellingCosts<TensorCosts> whole(std::numeric_limits<std::int64_t>::max(),
                                     wanted, OnDevice(matrix), kSmallBlock);
  EXPECT_TRUE(internal::SolveCosts(whole, options, wanted).ok());
  std::int64_t stopped = 0;
  for (std::int64_t call = 1; call <= whole.calls(); ++call) {
    const RunContext context;
    CancellingCosts<TensorCosts> costs(call, context, OnDevice(matrix),
                                       kSmallBlock);
    stopped += absl::IsCancelled(
                   internal::SolveCosts(costs, options, context).status())
                   ? 1
                   : 0;
    // Not the next pass, this one.
    EXPECT_EQ(costs.calls(), call);
  }
  return stopped == whole.calls();
}

TEST(TensorCostsTest, StopInThePassInWhichTheyAreCancelled) {
  const SimilarityMatrix matrix =
      Quantise(MakeInstance("strongly dominant", 90, 8));
  internal::SolverOptions from_transport;
  from_transport.hard_share = 0;
  internal::SolverOptions dense;
  dense.max_rounds = dense.max_rounds_after_transport = 0;

  EXPECT_TRUE(StopsAtEveryPass(matrix, internal::SolverOptions()));
  EXPECT_TRUE(StopsAtEveryPass(matrix, from_transport));
  EXPECT_TRUE(StopsAtEveryPass(matrix, dense));
}

TEST(TensorCostsTest, StopAtADeadline) {
  const SimilarityMatrix matrix = Quantise(RandomInstance(1024, 16, 1));
  TensorCosts costs(OnDevice(matrix), 1024);
  RunContext context;
  context.set_deadline(absl::Now() + absl::Milliseconds(2));

  EXPECT_EQ(internal::SolveCosts(costs, internal::SolverOptions(), context)
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace moescope::numerics
