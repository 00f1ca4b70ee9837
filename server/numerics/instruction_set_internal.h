#pragma once

namespace moescope::numerics::internal {

/// Whether bf16 products are to use the processor's own instruction
/// (AVX512_BF16, _mm512_dpbf16_ps).
bool UseNativeBFloat16();

}  // namespace moescope::numerics::internal
