#include "moescope/numerics/dbscan.h"

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

constexpr std::int64_t kNoise = -1;

class Clustering {
 public:
  Clustering(absl::Span<const double> points, std::int64_t dims, double eps,
             std::int64_t min_samples)
      : points_(points),
        dims_(dims),
        size_(static_cast<std::int64_t>(points.size()) / dims),
        eps_squared_(eps * eps),
        labels_(static_cast<std::size_t>(size_), kNoise) {
    for (std::int64_t i = 0; i < size_; ++i) {
      std::int64_t neighbours = 0;
      for (std::int64_t j = 0; j < size_; ++j) {
        neighbours += Near(i, j) ? 1 : 0;
      }
      core_.push_back(neighbours >= min_samples);
    }
  }

  std::vector<std::int64_t> Run() {
    std::int64_t next = 0;
    for (std::int64_t i = 0; i < size_; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (core_[at] && labels_[at] == kNoise) {
        Grow(i, next++);
      }
    }
    return std::move(labels_);
  }

 private:
  // False for NaN.
  bool Near(std::int64_t i, std::int64_t j) const {
    double squared = 0;
    for (std::int64_t k = 0; k < dims_; ++k) {
      const double difference = points_[static_cast<std::size_t>(i * dims_ + k)] -
                                points_[static_cast<std::size_t>(j * dims_ + k)];
      squared += difference * difference;
    }
    return squared <= eps_squared_;
  }

  void Grow(std::int64_t first, std::int64_t label) {
    std::vector<std::int64_t> open = {first};
    labels_[static_cast<std::size_t>(first)] = label;
    while (!open.empty()) {
      const std::int64_t i = open.back();
      open.pop_back();
      if (!core_[static_cast<std::size_t>(i)]) {
        continue;
      }
      for (std::int64_t j = 0; j < size_; ++j) {
        const auto at = static_cast<std::size_t>(j);
        if (labels_[at] == kNoise && Near(i, j)) {
          labels_[at] = label;
          open.push_back(j);
        }
      }
    }
  }

  const absl::Span<const double> points_;
  const std::int64_t dims_;
  const std::int64_t size_;
  const double eps_squared_;
  std::vector<bool> core_;
  std::vector<std::int64_t> labels_;
};

}  // namespace

absl::StatusOr<std::vector<std::int64_t>> Dbscan(absl::Span<const double> points,
                                                 std::int64_t dims, double eps,
                                                 std::int64_t min_samples) {
  if (dims < 1 || static_cast<std::int64_t>(points.size()) % dims != 0) {
    return InvalidField("points", absl::StrCat(points.size(),
                                               " values are no points of ",
                                               dims, " dimensions"));
  }
  if (!(eps > 0)) {
    return InvalidField("eps", absl::StrCat(eps, " is not positive"));
  }
  if (min_samples < 1) {
    return InvalidField("min_samples", absl::StrCat(min_samples, " is below 1"));
  }
  return Clustering(points, dims, eps, min_samples).Run();
}

}  // namespace moescope::numerics
