#include "moescope/numerics/principal_components.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"
#include "server/numerics/principal_components_internal.h"

namespace moescope::numerics {
namespace internal {

void OrientComponents(std::int64_t components, PrincipalComponents& result) {
  const auto k = static_cast<std::size_t>(components);
  const std::size_t points = result.scores.size() / k;
  result.sign_gap.assign(k, 0.0);
  for (std::size_t c = 0; c < k; ++c) {
    double first = 0;
    double second = 0;
    double signed_first = 0;
    for (std::size_t i = 0; i < points; ++i) {
      const double score = result.scores[i * k + c];
      const double size = std::fabs(score);
      if (size > first) {
        second = first;
        first = size;
        signed_first = score;
      } else {
        second = std::max(second, size);
      }
    }
    for (std::size_t i = 0; signed_first < 0 && i < points; ++i) {
      result.scores[i * k + c] = -result.scores[i * k + c];
    }
    result.sign_gap[c] = first > 0 ? 1 - second / first : 0;
  }
}

PrincipalComponents NotANumber(std::int64_t points, std::int64_t components,
                               std::int64_t shares) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  PrincipalComponents result;
  result.scores.assign(static_cast<std::size_t>(points * components), kNan);
  result.explained_ratio.assign(static_cast<std::size_t>(components), kNan);
  result.spectrum.assign(static_cast<std::size_t>(shares), kNan);
  result.sign_gap = result.explained_ratio;
  return result;
}

}  // namespace internal

namespace {

absl::StatusOr<PrincipalComponents> Decompose(absl::Span<const double> gram,
                                              std::int64_t points,
                                              std::int64_t components) {
  const c10::NoGradGuard no_grad;
  at::Tensor matrix = at::empty({points, points}, at::kDouble);
  std::copy(gram.begin(), gram.end(), matrix.data_ptr<double>());
  const auto [ascending, columns] = at::linalg_eigh(matrix);
  const at::Tensor values = ascending.flip(0).clamp_min(0).contiguous();
  const at::Tensor vectors = columns.flip(1).contiguous();
  const double* const lambda = values.data_ptr<double>();
  const double* const u = vectors.data_ptr<double>();
  double total = 0;
  for (std::int64_t i = 0; i < points; ++i) {
    total += lambda[i];
  }
  const auto share = [&](std::int64_t i) {
    return i < points && total > 0 ? lambda[i] / total : 0.0;
  };
  PrincipalComponents result;
  for (std::int64_t i = 0; i < points; ++i) {
    for (std::int64_t c = 0; c < components; ++c) {
      result.scores.push_back(
          c < points ? u[i * points + c] * std::sqrt(lambda[c]) : 0.0);
    }
  }
  for (std::int64_t c = 0; c < components; ++c) {
    result.explained_ratio.push_back(share(c));
  }
  const std::int64_t shares =
      std::min(points, std::max(components + 1, kSpectrumLength));
  for (std::int64_t i = 0; i < shares; ++i) {
    result.spectrum.push_back(share(i));
  }
  internal::OrientComponents(components, result);
  return result;
}

}  // namespace

absl::StatusOr<PrincipalComponents> ComponentsFromGram(
    absl::Span<const double> gram, std::int64_t points,
    std::int64_t components) {
  if (points < 0 ||
      static_cast<std::int64_t>(gram.size()) != points * points) {
    return InvalidField("gram", absl::StrCat("has ", gram.size(),
                                             " entries, not ", points, "²"));
  }
  if (components < 1) {
    return InvalidField("components", absl::StrCat(components, " is below 1"));
  }
  if (points == 0) {
    return PrincipalComponents{
        {}, std::vector<double>(static_cast<std::size_t>(components)), {},
        std::vector<double>(static_cast<std::size_t>(components))};
  }
  if (!std::all_of(gram.begin(), gram.end(),
                   [](double x) { return std::isfinite(x); })) {
    return internal::NotANumber(
        points, components,
        std::min(points, std::max(components + 1, kSpectrumLength)));
  }
  return CatchExceptionsOf<PrincipalComponents>(
      [&] { return Decompose(gram, points, components); });
}

}  // namespace moescope::numerics
