#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/numerics/symmetric_eigenvalues_internal.h"

namespace moescope::numerics::internal {
namespace {

// A unit in the last place, as a relative error: squared it says what of a
// squared subdiagonal entry counts.
constexpr double kEpsilon = std::numeric_limits<double>::epsilon() / 2;
// As LAPACK: per eigenvalue, on average fewer than two.
constexpr std::size_t kIterationsPerValue = 30;
// Iterations between two looks at the context: 64 of 14,000 lines take 20 ms.
constexpr std::size_t kIterationsPerCheck = 64;

// The root-free QL algorithm of Pal, Walker and Kahan (Parlett, "The symmetric
// eigenvalue problem", section 8.15), as in LAPACK's dsterf.
class QlIteration {
 public:
  QlIteration(std::vector<double> d, std::vector<double> e,
              const RunContext& context)
      : d_(std::move(d)), squares_(std::move(e)), context_(context) {
    for (double& x : squares_) {
      x *= x;
    }
    // Ends every search for a negligible entry.
    squares_.push_back(0);
  }

  absl::StatusOr<std::vector<double>> Solve() {
    std::size_t first = 0;
    while (first < d_.size()) {
      const std::size_t last = BlockEnd(first);
      // From the end where entries are larger, so that they are deflated last.
      if (std::fabs(d_[last]) < std::fabs(d_[first])) {
        std::reverse(d_.begin() + Offset(first), d_.begin() + Offset(last) + 1);
        std::reverse(squares_.begin() + Offset(first),
                     squares_.begin() + Offset(last));
      }
      MOESCOPE_RETURN_IF_ERROR(SolveBlock(first, last));
      first = last + 1;
    }
    std::sort(d_.begin(), d_.end());
    return std::move(d_);
  }

 private:
  static std::ptrdiff_t Offset(std::size_t i) {
    return static_cast<std::ptrdiff_t>(i);
  }

  // The last line of the block that begins at `i`: where the next subdiagonal
  // entry is negligible.
  std::size_t BlockEnd(std::size_t i) {
    while (i + 1 < d_.size() &&
           squares_[i] > kEpsilon * kEpsilon * std::fabs(d_[i]) *
                             std::fabs(d_[i + 1])) {
      ++i;
    }
    squares_[i] = 0;
    return i;
  }

  absl::Status SolveBlock(std::size_t first, std::size_t last) {
    while (first <= last) {
      const std::size_t end = BlockEnd(first);
      if (end == first) {
        ++first;
        continue;
      }
      if (++iterations_ > kIterationsPerValue * d_.size()) {
        return absl::InternalError(absl::StrCat(
            "eigenvalues: ", iterations_ - 1, " QL iterations left line ",
            first, " of ", d_.size(), " coupled to the next"));
      }
      if (iterations_ % kIterationsPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
      }
      Iterate(first, end);
    }
    return absl::OkStatus();
  }

  // One QL step on lines first … end, with Wilkinson's shift.
  void Iterate(std::size_t first, std::size_t end) {
    const double root = std::sqrt(squares_[first]);
    const double slope = (d_[first + 1] - d_[first]) / (2 * root);
    const double shift =
        d_[first] -
        root / (slope + std::copysign(std::hypot(slope, 1.0), slope));
    double cosine = 1;
    double sine = 0;
    double gamma = d_[end] - shift;
    double p = gamma * gamma;
    for (std::size_t i = end; i-- > first;) {
      const double square = squares_[i];
      const double r = p + square;
      if (i + 1 != end) {
        squares_[i + 1] = sine * r;
      }
      const double old_cosine = cosine;
      cosine = p / r;
      sine = square / r;
      const double old_gamma = gamma;
      gamma = cosine * (d_[i] - shift) - sine * old_gamma;
      d_[i + 1] = old_gamma + (d_[i] - gamma);
      p = cosine != 0 ? gamma * gamma / cosine : old_cosine * square;
    }
    squares_[first] = sine * p;
    d_[first] = shift + gamma;
  }

  std::vector<double> d_;        // [n]
  std::vector<double> squares_;  // [n] of the subdiagonal
  const RunContext& context_;
  std::size_t iterations_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<double>> TridiagonalEigenvalues(
    std::vector<double> d, std::vector<double> e, const RunContext& context) {
  return QlIteration(std::move(d), std::move(e), context).Solve();
}

}  // namespace moescope::numerics::internal
