#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "moescope/numerics/assignment.h"
#include "tests/numerics/place_values.h"

namespace moescope::numerics {

/// A square matrix of similarities, for tests and benchmarks.
struct Instance {
  std::int64_t size = 0;
  std::vector<float> values;  // [size, size]

  MatrixView view() const {
    return {values.data(), ElementType::kFloat32, size, size, size};
  }
};

inline Instance MakeInstance(
    std::int64_t size,
    const std::function<double(std::int64_t, std::int64_t)>& value) {
  Instance instance;
  instance.size = size;
  instance.values.reserve(static_cast<std::size_t>(size * size));
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) {
      instance.values.push_back(static_cast<float>(value(i, j)));
    }
  }
  return instance;
}

/// Rows of Gaussian numbers.
class Vectors {
 public:
  Vectors(std::int64_t rows, std::int64_t cols, std::mt19937& random)
      : cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {
    std::normal_distribution<float> draw;
    std::generate(values_.begin(), values_.end(),
                  [&] { return draw(random); });
  }

  float* row(std::int64_t i) { return values_.data() + i * cols_; }
  const float* row(std::int64_t i) const { return values_.data() + i * cols_; }
  std::int64_t rows() const {
    return static_cast<std::int64_t>(values_.size()) / cols_;
  }
  std::int64_t cols() const { return cols_; }

  /// Adds Gaussian multiples of the rows of `shared` to every row.
  void AddShared(const Vectors& shared, float strength, std::mt19937& random) {
    std::normal_distribution<float> draw;
    for (std::int64_t i = 0; i < rows(); ++i) {
      for (std::int64_t k = 0; k < shared.rows(); ++k) {
        const float load = strength * draw(random);
        for (std::int64_t c = 0; c < cols_; ++c) {
          row(i)[c] += load * shared.row(k)[c];
        }
      }
    }
  }

  void Normalise() {
    for (std::int64_t i = 0; i < rows(); ++i) {
      float* const x = row(i);
      const float norm =
          std::sqrt(std::inner_product(x, x + cols_, x, 0.0F));
      std::for_each(x, x + cols_, [norm](float& value) { value /= norm; });
    }
  }

 private:
  std::int64_t cols_;
  std::vector<float> values_;
};

inline Instance CosineInstance(Vectors left, Vectors right) {
  left.Normalise();
  right.Normalise();
  const std::int64_t n = left.rows();
  // Dimension by dimension, so that the innermost loop runs over memory.
  std::vector<float> turned(static_cast<std::size_t>(n * right.cols()));
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t c = 0; c < right.cols(); ++c) {
      turned[static_cast<std::size_t>(c * n + j)] = right.row(j)[c];
    }
  }
  Instance instance;
  instance.size = n;
  instance.values.assign(static_cast<std::size_t>(n * n), 0.0F);
  for (std::int64_t i = 0; i < n; ++i) {
    float* const out = instance.values.data() + i * n;
    for (std::int64_t c = 0; c < right.cols(); ++c) {
      const float x = left.row(i)[c];
      const float* const y = turned.data() + c * n;
      for (std::int64_t j = 0; j < n; ++j) {
        out[j] += x * y[j];
      }
    }
  }
  return instance;
}

/// Unrelated neurons.
inline Instance RandomInstance(std::int64_t size, std::int64_t depth,
                               unsigned seed) {
  std::mt19937 random(seed);
  Vectors left(size, depth, random);
  return CosineInstance(std::move(left), Vectors(size, depth, random));
}

/// Half the rows correlate by .15 with a column, all share 8 directions.
inline Instance StructuredInstance(std::int64_t size, std::int64_t depth,
                                   unsigned seed) {
  std::mt19937 random(seed);
  Vectors left(size, depth, random);
  Vectors right(size, depth, random);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::shuffle(order.begin(), order.end(), random);
  for (std::int64_t i = 0; i < size / 2; ++i) {
    float* const y = right.row(order[static_cast<std::size_t>(i)]);
    for (std::int64_t c = 0; c < depth; ++c) {
      y[c] = 0.15F * left.row(i)[c] + 0.9887F * y[c];
    }
  }
  const Vectors shared(8, depth, random);
  left.AddShared(shared, 0.5F, random);
  right.AddShared(shared, 0.5F, random);
  return CosineInstance(std::move(left), std::move(right));
}

/// One direction that every neuron has more or less of.
inline Instance DominantInstance(std::int64_t size, std::int64_t depth,
                                 float strength, unsigned seed) {
  std::mt19937 random(seed);
  Vectors left(size, depth, random);
  Vectors right(size, depth, random);
  const Vectors shared(1, depth, random);
  left.AddShared(shared, strength, random);
  right.AddShared(shared, strength, random);
  return CosineInstance(std::move(left), std::move(right));
}

/// The kinds of matrices that are hard in one way or another.
inline const std::vector<std::string>& InstanceKinds() {
  static const auto* const kinds = new std::vector<std::string>{
      "random",     "structured", "dominant",  "strongly dominant",
      "rank one",   "positive rank one",       "two dimensions",
      "three dimensions",         "duplicate rows",
      "duplicates", "constant",   "hub columns", "rising columns",
      "rising both", "binary",    "few levels", "sparse",
      "identity",   "product",    "distance",  "convex",
      "block",      "range of 3", "infeasible core"};
  return *kinds;
}

inline Instance MakeInstance(const std::string& kind, std::int64_t n,
                             unsigned seed) {
  std::mt19937 random(seed + 7919);
  PlaceValues values(n, random);
  const PlaceValues::Value of_place = values.Find(kind);
  if (of_place) {
    return MakeInstance(n, of_place);
  }
  if (kind == "structured") {
    return StructuredInstance(n, 48, seed);
  }
  if (kind == "dominant" || kind == "strongly dominant") {
    return DominantInstance(n, 48, kind == "dominant" ? 1.0F : 6.0F, seed);
  }
  const std::int64_t depth = kind == "two dimensions"     ? 2
                             : kind == "three dimensions" ? 3
                                                          : 48;
  Vectors left(n, depth, random);
  Vectors right(n, depth, random);
  const std::int64_t few = 1 + n / 20;
  const auto repeat = [&](Vectors& vectors) {
    for (std::int64_t i = few; i < n; ++i) {
      std::copy_n(vectors.row(i % few), depth, vectors.row(i));
    }
  };
  if (kind == "duplicate rows" || kind == "duplicates") {
    repeat(left);
  }
  if (kind == "duplicates") {
    repeat(right);
  }
  return CosineInstance(std::move(left), std::move(right));
}

}  // namespace moescope::numerics
