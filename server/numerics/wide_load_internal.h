// Loads of weights as fp32, once per target: to be included after
// hwy/foreach_target.h, as Highway's own -inl.h files are.
#if defined(MOESCOPE_WIDE_LOAD_INTERNAL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MOESCOPE_WIDE_LOAD_INTERNAL_H
#undef MOESCOPE_WIDE_LOAD_INTERNAL_H
#else
#define MOESCOPE_WIDE_LOAD_INTERNAL_H
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "server/numerics/gram_kernels_internal.h"

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::kRunPadding;
using Byte = std::uint8_t;
using Floats = hn::ScalableTag<float>;
using FloatVector = hn::Vec<Floats>;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
// Highway's emulated conversion takes infinities and NaN for large numbers.
HWY_INLINE float RestoreNonfinite(std::uint16_t half, float wide) {
  if ((half & 0x7c00) != 0x7c00) {
    return wide;
  }
  const float infinity = (half & 0x8000) != 0 ? -HUGE_VALF : HUGE_VALF;
  return (half & 0x3ff) != 0 ? std::nanf("") : infinity;
}

HWY_INLINE FloatVector RestoreNonfinite(const Byte* data, FloatVector wide) {
  const Floats d;
  std::uint16_t halves[kRunPadding];
  HWY_ALIGN float lanes[kRunPadding];
  std::memcpy(halves, data, hn::Lanes(d) * sizeof halves[0]);
  hn::StoreU(wide, d, lanes);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) {
    lanes[i] = RestoreNonfinite(halves[i], lanes[i]);
  }
  return hn::LoadU(d, lanes);
}
#else
HWY_INLINE FloatVector RestoreNonfinite(const Byte*, FloatVector wide) {
  return wide;
}
#endif

// Lanes(d) elements of type T at `data`, of any alignment, as fp32.
template <typename T>
HWY_INLINE FloatVector LoadWide(const Byte* data) {
  const Floats d;
  const hn::Rebind<T, Floats> narrow;
#if HWY_TARGET == HWY_SCALAR
  // The one-lane target would read through a misaligned pointer.
  T element;
  std::memcpy(&element, data, sizeof element);
  const T* const source = &element;
#else
  const T* const source = reinterpret_cast<const T*>(data);
#endif
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(d, source);
  } else if constexpr (std::is_same_v<T, hwy::float16_t>) {
    return RestoreNonfinite(data, hn::PromoteTo(d, hn::LoadU(narrow, source)));
  } else {
    return hn::PromoteTo(d, hn::LoadU(narrow, source));
  }
}

// The first `count` < Lanes(d) elements, zeros after them.
template <typename T>
HWY_INLINE FloatVector LoadWideTail(const Byte* data, std::int64_t count) {
  HWY_ALIGN Byte buffer[kRunPadding * sizeof(float)] = {};
  std::memcpy(buffer, data, static_cast<std::size_t>(count) * sizeof(T));
  return LoadWide<T>(buffer);
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
