#include "moescope/numerics/mantel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/descriptive.h"

namespace moescope::numerics {
namespace {

// Draws that share one generator, and that one task makes.
constexpr std::int64_t kBlockDraws = 500;
constexpr double kTie = 1e-9;

struct Counts {
  std::int64_t two_sided = 0;
  std::int64_t greater = 0;
};

// Uniform in [0, bound) by rejection: std::uniform_int_distribution differs
// between libraries.
std::int64_t Below(std::mt19937_64& random, std::int64_t bound) {
  const auto range = static_cast<std::uint64_t>(bound);
  const std::uint64_t limit =
      std::numeric_limits<std::uint64_t>::max() / range * range;
  std::uint64_t value = random();
  while (value >= limit) {
    value = random();
  }
  return static_cast<std::int64_t>(value % range);
}

class Mantel {
 public:
  Mantel(absl::Span<const double> x, absl::Span<const double> y,
         std::int64_t size)
      : size_(size), x_(x.begin(), x.end()), target_(LowerTriangle(y, size)) {
    std::vector<double> base = LowerTriangle(x, size);
    // Before means are rounded: what is constant has no digit to spare.
    const bool is_constant = IsConstant(base) || IsConstant(target_);
    Centre(target_);
    const double mean = Centre(base);
    for (double& value : x_) {
      value -= mean;
    }
    const auto norm = [](const std::vector<double>& v) {
      return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
    };
    scale_ = norm(base) * norm(target_);
    std::vector<std::int64_t> identity(static_cast<std::size_t>(size));
    std::iota(identity.begin(), identity.end(), 0);
    r_ = scale_ > 0 && !is_constant ? Correlation(identity)
                    : std::numeric_limits<double>::quiet_NaN();
  }

  double r() const { return r_; }

  Counts CountAll() const {
    std::vector<std::int64_t> order(static_cast<std::size_t>(size_));
    std::iota(order.begin(), order.end(), 0);
    Counts counts;
    do {
      Count(order, counts);
    } while (std::next_permutation(order.begin(), order.end()));
    return counts;
  }

  Counts CountDrawn(std::int64_t seed, std::int64_t block,
                    std::int64_t draws) const {
    const auto bits = static_cast<std::uint64_t>(seed);
    std::seed_seq sequence{static_cast<std::uint32_t>(bits),
                           static_cast<std::uint32_t>(bits >> 32),
                           static_cast<std::uint32_t>(block)};
    std::mt19937_64 random(sequence);
    std::vector<std::int64_t> order(static_cast<std::size_t>(size_));
    std::iota(order.begin(), order.end(), 0);
    Counts counts;
    for (std::int64_t i = 0; i < draws; ++i) {
      for (std::int64_t last = size_ - 1; last > 0; --last) {
        std::swap(order[static_cast<std::size_t>(last)],
                  order[static_cast<std::size_t>(Below(random, last + 1))]);
      }
      Count(order, counts);
    }
    return counts;
  }

 private:
  // Subtracts the mean and returns it.
  static double Centre(std::vector<double>& values) {
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) /
                        static_cast<double>(values.size());
    for (double& value : values) {
      value -= mean;
    }
    return mean;
  }

  double Correlation(const std::vector<std::int64_t>& order) const {
    const double* target = target_.data();
    double sum = 0;
    for (std::int64_t i = 1; i < size_; ++i) {
      const double* const row =
          x_.data() + order[static_cast<std::size_t>(i)] * size_;
      // Two sums: one alone would wait for each addition.
      double even = 0;
      double odd = 0;
      std::int64_t j = 0;
      for (; j + 1 < i; j += 2) {
        even += row[order[static_cast<std::size_t>(j)]] * target[j];
        odd += row[order[static_cast<std::size_t>(j + 1)]] * target[j + 1];
      }
      if (j < i) {
        even += row[order[static_cast<std::size_t>(j)]] * target[j];
      }
      sum += even + odd;
      target += i;
    }
    return sum / scale_;
  }

  void Count(const std::vector<std::int64_t>& order, Counts& counts) const {
    const double r = Correlation(order);
    counts.two_sided += std::fabs(r) >= std::fabs(r_) - kTie ? 1 : 0;
    counts.greater += r >= r_ - kTie ? 1 : 0;
  }

  const std::int64_t size_;
  std::vector<double> x_;       // [N, N], minus the mean of its triangle
  std::vector<double> target_;  // lower triangle, centred
  double scale_ = 0;
  double r_ = 0;
};

absl::Status CheckArguments(absl::Span<const double> x,
                            absl::Span<const double> y, std::int64_t size,
                            const MantelOptions& options) {
  const std::int64_t entries = size * size;
  if (size < 3 || static_cast<std::int64_t>(x.size()) != entries ||
      static_cast<std::int64_t>(y.size()) != entries) {
    return InvalidField("size", absl::StrCat(size, " does not fit maps of ",
                                             x.size(), " and ", y.size(),
                                             " entries, or is below 3"));
  }
  if (options.draws < 1) {
    return InvalidField("draws", absl::StrCat(options.draws, " is below 1"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<double> LowerTriangle(absl::Span<const double> map,
                                  std::int64_t size) {
  std::vector<double> entries;
  for (std::int64_t i = 1; i < size; ++i) {
    const auto row = map.begin() + i * size;
    entries.insert(entries.end(), row, row + i);
  }
  return entries;
}

absl::StatusOr<MantelResult> MantelTest(absl::Span<const double> x,
                                        absl::Span<const double> y,
                                        std::int64_t size,
                                        const MantelOptions& options,
                                        ThreadPool& pool,
                                        const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckArguments(x, y, size, options));
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  const Mantel test(x, y, size);
  MantelResult result;
  result.r = test.r();
  const bool exact = size <= kMantelExactSize;
  Counts total;
  if (exact) {
    total = test.CountAll();
    result.relabelings = 1;
    for (std::int64_t i = 2; i <= size; ++i) {
      result.relabelings *= i;
    }
  } else {
    result.relabelings = options.draws;
    const std::int64_t blocks = (options.draws + kBlockDraws - 1) / kBlockDraws;
    std::vector<Counts> parts(static_cast<std::size_t>(blocks));
    MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(blocks, [&](std::int64_t b) {
      absl::Status wanted = context.Check();
      if (wanted.ok()) {
        parts[static_cast<std::size_t>(b)] = test.CountDrawn(
            options.seed, b,
            std::min(kBlockDraws, options.draws - b * kBlockDraws));
      }
      return wanted;
    }));
    for (const Counts& part : parts) {
      total.two_sided += part.two_sided;
      total.greater += part.greater;
    }
  }
  const double extra = exact ? 0 : 1;
  const double all = static_cast<double>(result.relabelings);
  result.p = (static_cast<double>(total.two_sided) + extra) / (all + extra);
  result.p_greater = (static_cast<double>(total.greater) + extra) / (all + extra);
  if (std::isnan(result.r)) {
    result.p = result.p_greater = result.r;
  }
  result.p_se = exact ? 0 : std::sqrt(result.p * (1 - result.p) / all);
  return result;
}

}  // namespace moescope::numerics
