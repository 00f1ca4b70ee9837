#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace moescope::numerics {

/// Similarities that are a formula of the place, some with noise.
class PlaceValues {
 public:
  using Index = std::int64_t;
  using Value = std::function<double(Index, Index)>;

  /// The values refer to this object and to `random`.
  PlaceValues(Index n, std::mt19937& random) : n_(n), random_(random) {
    for (Index i = 0; i < n; ++i) {
      x_.push_back(Unit());
    }
    for (Index i = 0; i < n; ++i) {
      y_.push_back(Unit());
    }
  }
  PlaceValues(const PlaceValues&) = delete;
  PlaceValues& operator=(const PlaceValues&) = delete;

  /// Empty if `kind` is none of these.
  Value Find(const std::string& kind) {
    const Value smooth = Smooth(kind);
    return smooth ? smooth : Noisy(kind);
  }

 private:
  Value Smooth(const std::string& kind) const {
    const double square = size() * size();
    if (kind == "rank one") {
      return [this](Index i, Index j) {
        return (2 * X(i) - 1) * (2 * Y(j) - 1);
      };
    }
    if (kind == "positive rank one") {
      return [this](Index i, Index j) { return X(i) * Y(j); };
    }
    if (kind == "constant") {
      return [](Index, Index) { return 0.25; };
    }
    if (kind == "identity") {
      return [](Index i, Index j) { return i == j ? 1.0 : 0.0; };
    }
    if (kind == "product") {
      return [square](Index i, Index j) {
        return -static_cast<double>((i + 1) * (j + 1)) / square;
      };
    }
    if (kind == "distance") {
      return [this](Index i, Index j) {
        return -std::fabs(static_cast<double>(i + j + 1 - n_)) / size();
      };
    }
    if (kind == "convex") {
      return [this](Index i, Index j) {
        const double d = X(i) - Y(j) * Y(j);
        return -d * d;
      };
    }
    return {};
  }

  Value Noisy(const std::string& kind) {
    if (kind == "rising columns" || kind == "rising both") {
      return Rising(kind == "rising both");
    }
    if (kind == "hub columns") {
      return [this](Index, Index j) {
        return 0.2 * Noise() + (j < 20 ? 0.7 : 0);
      };
    }
    if (kind == "binary") {
      return [this](Index, Index) { return Unit() < 0.5 ? 1.0 : 0.0; };
    }
    if (kind == "few levels") {
      return [this](Index, Index) { return std::floor(8 * Unit()) / 8; };
    }
    if (kind == "sparse") {
      return [this](Index, Index) { return Unit() < 3 / size() ? 1.0 : -1.0; };
    }
    if (kind == "block") {
      return [this](Index i, Index j) {
        return 0.3 * Noise() + (i < n_ / 2 && j < n_ / 10 ? 0.6 : 0);
      };
    }
    if (kind == "range of 3") {
      return [this](Index, Index) { return 3.4 * Noise(); };
    }
    // Most rows want one of few columns and nothing else.
    if (kind == "infeasible core") {
      return [this](Index i, Index j) {
        return i >= n_ / 3 && j >= n_ / 3 ? -3.0 : Unit();
      };
    }
    return {};
  }

  Value Rising(bool both) {
    return [this, both](Index i, Index j) {
      const double part = static_cast<double>(j) / size();
      return 0.1 * Noise() + (both ? 0.8 * X(i) * part : part - 0.5);
    };
  }

  double size() const { return static_cast<double>(n_); }
  double X(Index i) const { return x_[static_cast<std::size_t>(i)]; }
  double Y(Index j) const { return y_[static_cast<std::size_t>(j)]; }
  double Unit() { return unit_(random_); }
  double Noise() { return 2 * Unit() - 1; }

  Index n_;
  std::mt19937& random_;
  std::uniform_real_distribution<double> unit_{0, 1};
  std::vector<double> x_;
  std::vector<double> y_;
};

}  // namespace moescope::numerics
