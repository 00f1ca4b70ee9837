#include "moescope/base/blas_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope {
namespace {

#if defined(__x86_64__)

TEST(FittingOpenBlasCoreTest, FollowsTheFeaturesNotTheModel) {
  CpuFeatures features;
  EXPECT_EQ(FittingOpenBlasCore(features), "Prescott");
  features.sse42 = true;
  EXPECT_EQ(FittingOpenBlasCore(features), "Nehalem");
  features.avx = true;
  EXPECT_EQ(FittingOpenBlasCore(features), "Sandybridge");
  features.avx2_fma = true;
  EXPECT_EQ(FittingOpenBlasCore(features), "Haswell");
  features.avx512 = true;
  EXPECT_EQ(FittingOpenBlasCore(features), "SkylakeX");
  features.avx512_bf16 = true;
  EXPECT_EQ(FittingOpenBlasCore(features), "SkylakeX");
}

TEST(FittingOpenBlasCoreTest, TakesZenKernelsOnAmdWithoutAvx512) {
  CpuFeatures features;
  features.vendor = "AuthenticAMD";
  features.avx = true;
  features.avx2_fma = true;

  EXPECT_EQ(FittingOpenBlasCore(features), "Zen");
}

TEST(FittingOpenBlasCoreTest, TakesAvx512KernelsOnAmdThatHasThem) {
  CpuFeatures features;
  features.vendor = "AuthenticAMD";
  features.avx2_fma = true;
  features.avx512 = true;

  EXPECT_EQ(FittingOpenBlasCore(features), "SkylakeX");
}

TEST(DetectCpuFeaturesTest, NamesTheVendor) {
  EXPECT_EQ(DetectCpuFeatures().vendor.size(), 12U);
}

#endif

// This program links no BLAS.
TEST(LoadedBlasTest, IsUnknownWhereNoneIsLoaded) {
  const LoadedBlas blas = DescribeLoadedBlas();

  EXPECT_EQ(blas.library, "unknown");
  EXPECT_EQ(blas.core, "unknown");
  EXPECT_EQ(blas.config, "unknown");
  EXPECT_FALSE(SetLoadedBlasThreads(1));
}

}  // namespace
}  // namespace moescope
