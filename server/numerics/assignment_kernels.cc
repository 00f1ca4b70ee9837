#include "server/numerics/assignment_kernels_internal.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/assignment_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::DenseSearch;
using Ints = hn::ScalableTag<std::int32_t>;
using Longs = hn::ScalableTag<std::int64_t>;
using Floats = hn::ScalableTag<float>;
using FloatVector = hn::Vec<Floats>;

bool QuantiseRun(const float* values, std::int64_t count, float limit,
                 std::int32_t* out) {
  const Floats d;
  const Ints di;
  constexpr float kScale = -268435456.0F;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const FloatVector most = hn::Set(d, limit);
  bool fits = true;
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    const FloatVector x = hn::LoadU(d, values + j);
    // False for NaN too.
    fits = fits && hn::AllTrue(d, hn::Le(hn::Abs(x), most));
    hn::StoreU(hn::NearestInt(hn::Mul(x, hn::Set(d, kScale))), di, out + j);
  }
  for (; j < count; ++j) {
    if (!(std::fabs(values[j]) <= limit)) {
      return false;
    }
    out[j] = static_cast<std::int32_t>(std::lrint(values[j] * kScale));
  }
  return fits;
}

// Writes the columns of `mask`, which begins at column j; returns how many.
// A store of the whole vector: storing only what is compressed takes AMD's
// processors a hundred cycles.
HWY_INLINE std::int64_t Append(std::int64_t j, hn::Mask<Ints> mask,
                               std::int32_t* out) {
  const Ints d;
  const auto columns = hn::Iota(d, static_cast<std::int32_t>(j));
  hn::StoreU(hn::Compress(columns, mask), d, out);
  return static_cast<std::int64_t>(hn::CountTrue(d, mask));
}

std::int64_t CollectBelow(const std::int32_t* row, const std::int32_t* shift,
                          std::int64_t begin, std::int64_t end,
                          std::int32_t bound, std::int32_t* out) {
  const Ints d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto most = hn::Set(d, bound);
  std::int64_t found = 0;
  std::int64_t j = begin;
  for (; j + lanes <= end; j += lanes) {
    const auto below = hn::Lt(
        hn::Sub(hn::LoadU(d, row + j), hn::LoadU(d, shift + j)), most);
    if (!hn::AllFalse(d, below)) {
      found += Append(j, below, out + found);
    }
  }
  for (; j < end; ++j) {
    if (row[j] - shift[j] < bound) {
      out[found++] = static_cast<std::int32_t>(j);
    }
  }
  return found;
}

std::int64_t CollectBelowWide(const std::int32_t* row,
                              const std::int64_t* shift, std::int64_t begin,
                              std::int64_t end, std::int64_t bound,
                              std::int32_t* out) {
  std::int64_t found = 0;
  for (std::int64_t j = begin; j < end; ++j) {
    if (row[j] - shift[j] < bound) {
      out[found++] = static_cast<std::int32_t>(j);
    }
  }
  return found;
}

std::int64_t CollectBelowEach(const std::int32_t* row, std::int32_t shift,
                              const std::int32_t* bounds, std::int64_t begin,
                              std::int64_t end, std::int32_t* out) {
  const Ints d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto moved = hn::Set(d, shift);
  std::int64_t found = 0;
  std::int64_t j = begin;
  for (; j + lanes <= end; j += lanes) {
    const auto below = hn::Lt(hn::Sub(hn::LoadU(d, row + j), moved),
                              hn::LoadU(d, bounds + j));
    if (!hn::AllFalse(d, below)) {
      found += Append(j, below, out + found);
    }
  }
  for (; j < end; ++j) {
    if (row[j] - shift < bounds[j]) {
      out[found++] = static_cast<std::int32_t>(j);
    }
  }
  return found;
}

std::int64_t KeepLeast(std::int64_t* keys, std::int64_t size,
                       std::int64_t count, std::int64_t* scratch) {
  const Longs d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::copy_n(keys, size, scratch);
  std::fill_n(scratch + size, lanes, std::numeric_limits<std::int64_t>::max());
  const auto last = hn::Set(d, count - 1);
  const auto one = hn::Set(d, std::int64_t{1});
  std::int64_t kept = 0;
  std::int64_t bound = 0;
  for (std::int64_t k = 0; k < size; k += lanes) {
    const auto key = hn::LoadU(d, scratch + k);
    // How many are less, in two sums: additions wait for each other.
    auto rank = hn::Zero(d);
    auto odd = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + 2 <= size; i += 2) {
      rank = hn::Add(rank, hn::IfThenElseZero(
                               hn::Lt(hn::Set(d, scratch[i]), key), one));
      odd = hn::Add(odd, hn::IfThenElseZero(
                             hn::Lt(hn::Set(d, scratch[i + 1]), key), one));
    }
    if (i < size) {
      rank = hn::Add(rank, hn::IfThenElseZero(
                               hn::Lt(hn::Set(d, scratch[i]), key), one));
    }
    rank = hn::Add(rank, odd);
    // Padding has rank `size` and is never kept.
    HWY_ALIGN std::int64_t ranks[8];
    HWY_ALIGN std::int64_t chosen[8];
    const auto mask = hn::Not(hn::Gt(rank, last));
    hn::Store(hn::Compress(key, mask), d, chosen);
    hn::Store(rank, d, ranks);
    const auto n = static_cast<std::int64_t>(hn::CountTrue(d, mask));
    std::copy_n(chosen, n, keys + kept);
    kept += n;
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      bound = ranks[lane] == count - 1 ? scratch[k + lane] : bound;
    }
  }
  return bound;
}

void LowerMinima(const std::int32_t* row, const std::int32_t* next,
                 std::int32_t row_shift,
                 const std::int32_t* column_shift, std::int64_t count,
                 std::int32_t* least_of_column, std::int32_t* group_least) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  // Two vectors take no more lanes than there are groups.
  const hn::CappedTag<std::int32_t, internal::kBoundGroups / 2> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto moved = hn::Set(d, row_shift);
  // Two vectors at a time, as many turns as it takes to see all groups.
  const std::int64_t turn = 2 * lanes;
  for (std::int64_t g = 0; g < internal::kBoundGroups; g += turn) {
    auto even = hn::Set(d, kMost);
    auto odd = even;
    std::int64_t j = g;
    for (; j + turn <= count; j += internal::kBoundGroups) {
      hwy::Prefetch(next + j);
      hwy::Prefetch(next + j + lanes);
      const auto first = hn::LoadU(d, row + j);
      const auto second = hn::LoadU(d, row + j + lanes);
      even = hn::Min(even, hn::Sub(first, hn::LoadU(d, column_shift + j)));
      odd = hn::Min(odd,
                    hn::Sub(second, hn::LoadU(d, column_shift + j + lanes)));
      std::int32_t* const least = least_of_column + j;
      hn::StoreU(hn::Min(hn::LoadU(d, least), hn::Sub(first, moved)), d, least);
      hn::StoreU(
          hn::Min(hn::LoadU(d, least + lanes), hn::Sub(second, moved)), d,
          least + lanes);
    }
    hn::StoreU(even, d, group_least + g);
    hn::StoreU(odd, d, group_least + g + lanes);
    const std::int64_t end = std::min(count, j + turn);
    for (; j < end; ++j) {
      std::int32_t& group = group_least[j % internal::kBoundGroups];
      group = std::min(group, row[j] - column_shift[j]);
      least_of_column[j] = std::min(least_of_column[j], row[j] - row_shift);
    }
  }
}

std::int32_t NthOfGroups(const std::int32_t* values, std::int64_t nth) {
  const hn::CappedTag<std::int32_t, internal::kBoundGroups> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto one = hn::Set(d, 1);
  const auto last = hn::Set(d, static_cast<std::int32_t>(nth));
  const auto least = hn::Set(d, std::numeric_limits<std::int32_t>::min());
  auto found = least;
  for (std::int64_t g = 0; g < internal::kBoundGroups; g += lanes) {
    const auto value = hn::LoadU(d, values + g);
    // How many are less; the number sought is the greatest with at most `nth`.
    auto rank = hn::Zero(d);
    for (std::int64_t i = 0; i < internal::kBoundGroups; ++i) {
      rank = hn::Add(
          rank, hn::IfThenElseZero(hn::Lt(hn::Set(d, values[i]), value), one));
    }
    found = hn::Max(found, hn::IfThenElse(hn::Gt(rank, last), least, value));
  }
  return hn::GetLane(hn::MaxOfLanes(d, found));
}

void NthOfEachColumn(const std::int32_t* values, std::int64_t stride,
                     std::int64_t count, std::int64_t nth, std::int32_t* out) {
  const Ints d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto one = hn::Set(d, 1);
  const auto last = hn::Set(d, static_cast<std::int32_t>(nth));
  const auto least = hn::Set(d, std::numeric_limits<std::int32_t>::min());
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    auto found = least;
    for (std::int64_t g = 0; g < internal::kBoundGroups; ++g) {
      const auto value = hn::LoadU(d, values + g * stride + j);
      auto rank = hn::Zero(d);
      for (std::int64_t i = 0; i < internal::kBoundGroups; ++i) {
        rank = hn::Add(
            rank,
            hn::IfThenElseZero(
                hn::Lt(hn::LoadU(d, values + i * stride + j), value), one));
      }
      found = hn::Max(found, hn::IfThenElse(hn::Gt(rank, last), least, value));
    }
    hn::StoreU(found, d, out + j);
  }
  for (; j < count; ++j) {
    std::int32_t column[internal::kBoundGroups];
    for (std::int64_t g = 0; g < internal::kBoundGroups; ++g) {
      column[g] = values[g * stride + j];
    }
    std::nth_element(column, column + nth, column + internal::kBoundGroups);
    out[j] = column[nth];
  }
}

// Lanes(Longs()) costs, widened.
HWY_INLINE hn::Vec<Longs> LoadCosts(const std::int32_t* row) {
  const Longs d;
  const hn::Rebind<std::int32_t, Longs> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, row));
}

std::int64_t LeastDifference(const std::int32_t* row, const std::int64_t* shift,
                             std::int64_t count) {
  const Longs d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t least = row[0] - shift[0];
  auto leasts = hn::Set(d, least);
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    leasts = hn::Min(leasts, hn::Sub(LoadCosts(row + j),
                                     hn::LoadU(d, shift + j)));
  }
  least = hn::GetLane(hn::MinOfLanes(d, leasts));
  for (; j < count; ++j) {
    least = std::min(least, row[j] - shift[j]);
  }
  return least;
}

std::int64_t RelaxAll(const std::int32_t* row, std::int64_t base,
                      std::int64_t id, const DenseSearch& search) {
  const Longs d;
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto bases = hn::Set(d, base);
  const auto ids = hn::Set(d, id);
  const auto far = hn::Set(d, kFar);
  auto leasts = far;
  auto places = hn::Set(d, std::int64_t{-1});
  std::int64_t j = 0;
  for (; j + lanes <= search.count; j += lanes) {
    const auto offer = hn::Add(
        bases, hn::Sub(LoadCosts(row + j), hn::LoadU(d, search.shift + j)));
    const auto old = hn::LoadU(d, search.distance + j);
    // Settled columns are nearer than any offer: they need no mask here.
    const auto nearer = hn::Lt(offer, old);
    const auto now = hn::IfThenElse(nearer, offer, old);
    hn::StoreU(now, d, search.distance + j);
    hn::StoreU(hn::IfThenElse(nearer, ids, hn::LoadU(d, search.previous + j)),
               d, search.previous + j);
    const auto settled = hn::MaskFromVec(hn::LoadU(d, search.closed + j));
    const auto open = hn::IfThenElse(settled, far, now);
    const auto less = hn::Lt(open, leasts);
    leasts = hn::IfThenElse(less, open, leasts);
    places = hn::IfThenElse(less, hn::Iota(d, j), places);
  }
  HWY_ALIGN std::int64_t lane_least[8];
  HWY_ALIGN std::int64_t lane_place[8];
  hn::StoreU(leasts, d, lane_least);
  hn::StoreU(places, d, lane_place);
  std::int64_t least = kFar;
  std::int64_t place = -1;
  const auto consider = [&](std::int64_t distance, std::int64_t column) {
    if (column >= 0 &&
        (distance < least || (distance == least && column < place))) {
      least = distance;
      place = column;
    }
  };
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    consider(lane_least[lane], lane_place[lane]);
  }
  for (; j < search.count; ++j) {
    const std::int64_t offer = base + row[j] - search.shift[j];
    if (offer < search.distance[j]) {
      search.distance[j] = offer;
      search.previous[j] = id;
    }
    if (search.closed[j] == 0) {
      consider(search.distance[j], j);
    }
  }
  return place;
}

HWY_INLINE hn::Vec<hn::ScalableTag<double>> LoadReals(const std::int32_t* row) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<std::int32_t, decltype(d)> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, row));
}

double DotCosts(const std::int32_t* row, const double* x, std::int64_t count) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Two sums, so that additions wait less for each other.
  auto even = hn::Zero(d);
  auto odd = hn::Zero(d);
  std::int64_t j = 0;
  for (; j + 2 * lanes <= count; j += 2 * lanes) {
    even = hn::MulAdd(LoadReals(row + j), hn::LoadU(d, x + j), even);
    odd = hn::MulAdd(LoadReals(row + j + lanes), hn::LoadU(d, x + j + lanes),
                     odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; j < count; ++j) {
    sum += static_cast<double>(row[j]) * x[j];
  }
  return sum;
}

void AddCosts(const std::int32_t* row, double factor, std::int64_t count,
              double* sums) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factors = hn::Set(d, factor);
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    hn::StoreU(hn::MulAdd(LoadReals(row + j), factors, hn::LoadU(d, sums + j)),
               d, sums + j);
  }
  for (; j < count; ++j) {
    sums[j] += static_cast<double>(row[j]) * factor;
  }
}

// 2^x for x ≤ 0, to 1e-4 of it; what is below 2^-100 becomes that.
HWY_INLINE FloatVector PowerOfTwo(FloatVector x) {
  const Floats d;
  const Ints di;
  const FloatVector clipped = hn::Max(x, hn::Set(d, -100.0F));
  const auto whole = hn::NearestInt(clipped);
  const FloatVector part = hn::Sub(clipped, hn::ConvertTo(d, whole));
  // Taylor's coefficients of 2^t, |t| ≤ 1/2.
  FloatVector power = hn::MulAdd(part, hn::Set(d, 0.0096181F),
                                 hn::Set(d, 0.0555041F));
  power = hn::MulAdd(part, power, hn::Set(d, 0.2402265F));
  power = hn::MulAdd(part, power, hn::Set(d, 0.6931472F));
  power = hn::MulAdd(part, power, hn::Set(d, 1.0F));
  return hn::BitCast(
      d, hn::Add(hn::BitCast(di, power), hn::ShiftLeft<23>(whole)));
}

void AddTransportRow(const std::int32_t* row, const float* shift,
                     std::int64_t count, float scale, float* buffer,
                     float* sums) {
  const Floats d;
  const Ints di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = count / lanes * lanes;
  const FloatVector factor = hn::Set(d, scale);
  FloatVector most = hn::Set(d, std::numeric_limits<float>::lowest());
  for (std::int64_t j = 0; j < whole; j += lanes) {
    const FloatVector x =
        hn::MulAdd(hn::ConvertTo(d, hn::LoadU(di, row + j)), factor,
                   hn::LoadU(d, shift + j));
    hn::StoreU(x, d, buffer + j);
    most = hn::Max(most, x);
  }
  float highest = hn::GetLane(hn::MaxOfLanes(d, most));
  for (std::int64_t j = whole; j < count; ++j) {
    buffer[j] = static_cast<float>(row[j]) * scale + shift[j];
    highest = std::max(highest, buffer[j]);
  }
  const FloatVector top = hn::Set(d, highest);
  FloatVector total = hn::Zero(d);
  for (std::int64_t j = 0; j < whole; j += lanes) {
    const FloatVector power =
        PowerOfTwo(hn::Sub(hn::LoadU(d, buffer + j), top));
    hn::StoreU(power, d, buffer + j);
    total = hn::Add(total, power);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, total));
  for (std::int64_t j = whole; j < count; ++j) {
    buffer[j] = std::exp2(std::max(buffer[j] - highest, -100.0F));
    sum += buffer[j];
  }
  const float inverse = 1.0F / sum;
  const FloatVector inverses = hn::Set(d, inverse);
  for (std::int64_t j = 0; j < whole; j += lanes) {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, buffer + j), inverses,
                          hn::LoadU(d, sums + j)),
               d, sums + j);
  }
  for (std::int64_t j = whole; j < count; ++j) {
    sums[j] += buffer[j] * inverse;
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(QuantiseRun);
HWY_EXPORT(CollectBelow);
HWY_EXPORT(CollectBelowWide);
HWY_EXPORT(CollectBelowEach);
HWY_EXPORT(KeepLeast);
HWY_EXPORT(LowerMinima);
HWY_EXPORT(NthOfGroups);
HWY_EXPORT(NthOfEachColumn);
HWY_EXPORT(LeastDifference);
HWY_EXPORT(DotCosts);
HWY_EXPORT(AddCosts);
HWY_EXPORT(RelaxAll);
HWY_EXPORT(AddTransportRow);
}  // namespace

namespace internal {

bool QuantiseRun(const float* values, std::int64_t count, float limit,
                 std::int32_t* out) {
  return HWY_DYNAMIC_DISPATCH(QuantiseRun)(values, count, limit, out);
}

std::int64_t CollectBelow(const std::int32_t* row, const std::int32_t* shift,
                          std::int64_t begin, std::int64_t end,
                          std::int32_t bound, std::int32_t* out) {
  return HWY_DYNAMIC_DISPATCH(CollectBelow)(row, shift, begin, end, bound, out);
}

std::int64_t CollectBelowWide(const std::int32_t* row,
                              const std::int64_t* shift, std::int64_t begin,
                              std::int64_t end, std::int64_t bound,
                              std::int32_t* out) {
  return HWY_DYNAMIC_DISPATCH(CollectBelowWide)(row, shift, begin, end, bound,
                                                out);
}

std::int64_t CollectBelowEach(const std::int32_t* row, std::int32_t shift,
                              const std::int32_t* bounds, std::int64_t begin,
                              std::int64_t end, std::int32_t* out) {
  return HWY_DYNAMIC_DISPATCH(CollectBelowEach)(row, shift, bounds, begin, end,
                                                out);
}

std::int64_t KeepLeast(std::int64_t* keys, std::int64_t size,
                       std::int64_t count, std::int64_t* scratch) {
  return HWY_DYNAMIC_DISPATCH(KeepLeast)(keys, size, count, scratch);
}

void LowerMinima(const std::int32_t* row, const std::int32_t* next,
                 std::int32_t row_shift,
                 const std::int32_t* column_shift, std::int64_t count,
                 std::int32_t* least_of_column, std::int32_t* group_least) {
  HWY_DYNAMIC_DISPATCH(LowerMinima)(row, next, row_shift, column_shift, count,
                                    least_of_column, group_least);
}

std::int32_t NthOfGroups(const std::int32_t* values, std::int64_t nth) {
  return HWY_DYNAMIC_DISPATCH(NthOfGroups)(values, nth);
}

void NthOfEachColumn(const std::int32_t* values, std::int64_t stride,
                     std::int64_t count, std::int64_t nth, std::int32_t* out) {
  HWY_DYNAMIC_DISPATCH(NthOfEachColumn)(values, stride, count, nth, out);
}

std::int64_t LeastDifference(const std::int32_t* row, const std::int64_t* shift,
                             std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(LeastDifference)(row, shift, count);
}

double DotCosts(const std::int32_t* row, const double* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotCosts)(row, x, count);
}

void AddCosts(const std::int32_t* row, double factor, std::int64_t count,
              double* sums) {
  HWY_DYNAMIC_DISPATCH(AddCosts)(row, factor, count, sums);
}

std::int64_t RelaxAll(const std::int32_t* row, std::int64_t base,
                      std::int64_t id, const DenseSearch& search) {
  return HWY_DYNAMIC_DISPATCH(RelaxAll)(row, base, id, search);
}

void AddTransportRow(const std::int32_t* row, const float* shift,
                     std::int64_t count, float scale, float* buffer,
                     float* sums) {
  HWY_DYNAMIC_DISPATCH(AddTransportRow)(row, shift, count, scale, buffer, sums);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
