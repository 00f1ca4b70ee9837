#include "moescope/base/memory_limit.h"

#include <cstdlib>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "moescope/base/file.h"

namespace moescope {
namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

class ControlGroupTest : public ::testing::Test {
 protected:
  ControlGroupTest() : root_(::testing::TempDir() + "/moescope_cgroup_XXXXXX") {
    EXPECT_NE(mkdtemp(root_.data()), nullptr);
  }
  void Write(const std::string& folder, const std::string& file,
             const std::string& text) {
    ASSERT_TRUE(MakeDirectories(root_ + folder).ok());
    ASSERT_TRUE(WriteFileAtomically(root_ + folder + "/" + file, text).ok());
  }

  std::string root_;
};

TEST_F(ControlGroupTest, TheSmallestLimitOnTheWayUpCounts) {
  Write("/pods/one", "memory.max", "8000\n");
  Write("/pods", "memory.max", "5000\n");
  Write("/other", "memory.max", "10\n");

  EXPECT_EQ(ControlGroupLimitBytes("0::/pods/one\n", root_), 5000);
}

TEST_F(ControlGroupTest, TheMountOfAContainerIsItsOwnGroup) {
  Write("", "memory.max", "8000\n");

  EXPECT_EQ(ControlGroupLimitBytes("0::/\n", root_), 8000);
  EXPECT_EQ(ControlGroupLimitBytes("0::/not/here\n", root_), 8000);
}

TEST_F(ControlGroupTest, TheWordMaxSetsNone) {
  Write("/a", "memory.max", "max\n");

  EXPECT_EQ(ControlGroupLimitBytes("0::/a\n", root_), kNone);
  EXPECT_EQ(ControlGroupLimitBytes("", root_), kNone);
}

TEST_F(ControlGroupTest, VersionOneHasAFolderOfItsOwn) {
  Write("/memory/docker/x", "memory.limit_in_bytes", "4096\n");
  Write("/cpu/docker/x", "memory.limit_in_bytes", "1\n");

  EXPECT_EQ(ControlGroupLimitBytes("3:cpu:/docker/x\n2:memory:/docker/x\n",
                                   root_),
            4096);
}

TEST(MemoryLimitTest, IsWithinTheMachine) {
  EXPECT_GT(MemoryLimitBytes(), 0);
  EXPECT_LT(MemoryLimitBytes(), kNone);
}

}  // namespace
}  // namespace moescope
