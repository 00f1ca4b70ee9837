#pragma once

// The processor's own products of bf16 pairs, for functions that are marked as
// compiled for it; Highway 1.0 has none. Only where UseNativeBFloat16().
#if defined(__x86_64__)
// GCC 12 takes the operand that its own intrinsics leave undefined for a fault
// of theirs (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#define MOESCOPE_BF16_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#endif
