#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/benchmarks/comparison.h"

#include "moescope/base/run_context.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/gram.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::benchmarks {
namespace {

using numerics::MatrixView;
using nlohmann::json;

// Gaussian matrices in bf16, as the baseline has them: N of [rows, cols].
class Weights {
 public:
  Weights(std::int64_t n, std::int64_t rows, std::int64_t cols) {
    std::mt19937_64 generator(1);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    for (std::int64_t i = 0; i < n; ++i) {
      memory_.emplace_back(static_cast<std::size_t>(rows * cols));
      for (std::uint16_t& value : memory_.back()) {
        value = ToBfloat16(normal(generator));
      }
      views_.push_back({memory_.back().data(),
                        numerics::ElementType::kBFloat16, rows, cols, cols});
    }
  }
  const std::vector<MatrixView>& views() const { return views_; }

 private:
  // Truncated: which of the two neighbours it is does not matter here.
  static std::uint16_t ToBfloat16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>(bits >> 16);
  }

  std::vector<std::vector<std::uint16_t>> memory_;
  std::vector<MatrixView> views_;
};

struct Shape {
  std::int64_t experts = 0;
  std::int64_t neurons = 0;
  std::int64_t width = 0;
};

json BaselineShape(const Shape& shape) {
  return {{"E", shape.experts},
          {"F", shape.neurons},
          {"D", shape.width},
          {"dtype", "bf16"}};
}

std::string Name(const Shape& shape) {
  return absl::StrCat("E=", shape.experts, ", ", shape.width, "×",
                      shape.neurons, " bf16");
}

Comparison MatrixCosine(const Shape& shape, double demand) {
  return {"matrix cosine, all pairs",
          Name(shape),
          demand,
          {{"matrix_cosine", BaselineShape(shape)}},
          false,
          [shape](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(
                shape.experts, shape.neurons, shape.width);
            return [weights, &pool = bench.pool]() -> absl::Status {
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::GramResult gram,
                  numerics::ComputeGram(weights->views(), {}, pool,
                                        RunContext()));
              return numerics::CosinesFromGram(gram.gram, gram.participants)
                  .status();
            };
          }};
}

Comparison CosineAndAverage(const Shape& shape, double demand) {
  return {"matrix cosine and neuron average, fused",
          Name(shape),
          demand,
          {{"matrix_cosine_and_neuron_average", BaselineShape(shape)}},
          false,
          [shape](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(
                shape.experts, shape.neurons, shape.width);
            return [weights, &pool = bench.pool]() -> absl::Status {
              numerics::GramOptions options;
              options.mean_row = true;
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::GramResult gram,
                  numerics::ComputeGram(weights->views(), options, pool,
                                        RunContext()));
              MOESCOPE_RETURN_IF_ERROR(
                  numerics::CosinesFromGram(gram.gram, gram.participants)
                      .status());
              return numerics::RowCosines(gram.mean_row, gram.participants,
                                          gram.cols)
                  .status();
            };
          }};
}

}  // namespace

std::vector<Comparison> StaticComparisons() {
  const Shape few = {8, 3584, 1024};
  const Shape many = {64, 1408, 256};
  return {
      MatrixCosine(few, 20),
      MatrixCosine(many, 30),
      CosineAndAverage(few, 15),
  };
}

}  // namespace moescope::benchmarks
