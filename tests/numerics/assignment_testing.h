#pragma once

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "moescope/numerics/assignment.h"
#include "tests/numerics/assignment_instances.h"

// What the tests of the assignment have in common.
namespace moescope::numerics {

inline SimilarityMatrix Quantise(const Instance& instance) {
  SimilarityMatrix matrix;
  matrix.Resize(instance.size);
  EXPECT_EQ(matrix.Set(0, 0, instance.view()), absl::OkStatus());
  return matrix;
}

// On the calling thread alone.
inline absl::StatusOr<Assignment> Solve(
    SimilarityMatrix& matrix, const RunContext& context = RunContext()) {
  ThreadPool pool(1);
  return SolveAssignment(matrix, pool, context);
}

inline absl::StatusOr<Assignment> Solve(
    const MatrixView& similarities, const RunContext& context = RunContext()) {
  ThreadPool pool(1);
  SimilarityMatrix memory;
  return SolveAssignment(similarities, pool, context, memory);
}

inline std::string TestName(
    const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

}  // namespace moescope::numerics
