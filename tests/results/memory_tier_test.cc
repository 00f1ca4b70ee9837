#include "server/results/memory_tier_internal.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace moescope::internal {
namespace {

const LogExtent kExtent{1, 10, "d"};

std::shared_ptr<const std::string> Bytes(std::size_t size) {
  return std::make_shared<const std::string>(size, 'x');
}

TEST(MemoryTierTest, EvictsLeastRecentlyUsedFirst) {
  MemoryTier tier(80);
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    tier.Insert(key, kExtent, Bytes(10));
  }
  ASSERT_NE(tier.Lookup("a", kExtent), nullptr);

  tier.Insert("i", kExtent, Bytes(10));

  EXPECT_EQ(tier.Lookup("b", kExtent), nullptr);
  EXPECT_NE(tier.Lookup("a", kExtent), nullptr);
  EXPECT_NE(tier.Lookup("i", kExtent), nullptr);
  EXPECT_EQ(tier.evictions(), 1);
  EXPECT_EQ(tier.bytes(), 80);
  EXPECT_EQ(tier.entries(), 8);
}

TEST(MemoryTierTest, BytesHandedOutOutliveTheirEviction) {
  MemoryTier tier(80);
  tier.Insert("a", kExtent, Bytes(10));
  const auto held = tier.Lookup("a", kExtent);

  tier.Erase("a");

  EXPECT_EQ(*held, "xxxxxxxxxx");
  EXPECT_EQ(tier.bytes(), 0);
  EXPECT_EQ(tier.Lookup("a", kExtent), nullptr);
}

TEST(MemoryTierTest, OneLargeLogDoesNotPushOutTheRest) {
  MemoryTier tier(80);
  tier.Insert("a", kExtent, Bytes(10));

  tier.Insert("big", kExtent, Bytes(11));

  EXPECT_FALSE(tier.Admits(11));
  EXPECT_EQ(tier.Lookup("big", kExtent), nullptr);
  EXPECT_NE(tier.Lookup("a", kExtent), nullptr);
}

TEST(MemoryTierTest, AnotherExtentIsAnotherLog) {
  MemoryTier tier(80);
  tier.Insert("a", kExtent, Bytes(10));
  EXPECT_EQ(tier.Lookup("a", LogExtent{1, 10, "other"}), nullptr);
}

TEST(MemoryTierTest, InsertingAgainReplaces) {
  MemoryTier tier(80);
  tier.Insert("a", kExtent, Bytes(10));
  tier.Insert("a", kExtent, Bytes(4));
  EXPECT_EQ(tier.bytes(), 4);
  EXPECT_EQ(tier.entries(), 1);
  EXPECT_EQ(tier.evictions(), 0);
}

}  // namespace
}  // namespace moescope::internal
