#include "moescope/jobs/change_notifier.h"

#include <thread>

#include <gtest/gtest.h>

namespace moescope {
namespace {

TEST(ChangeNotifierTest, WaitEndsWithAChange) {
  ChangeNotifier notifier;
  const std::int64_t seen = notifier.version();
  std::thread other([&notifier] { notifier.Notify(); });

  EXPECT_EQ(notifier.WaitFor(seen, absl::Seconds(30)), seen + 1);
  other.join();
}

TEST(ChangeNotifierTest, WaitEndsAtOnceForAChangeThatWasMissed) {
  ChangeNotifier notifier;
  notifier.Notify();

  EXPECT_EQ(notifier.WaitFor(0, absl::InfiniteDuration()), 1);
  EXPECT_EQ(notifier.WaitFor(1, absl::ZeroDuration()), 1);
}

}  // namespace
}  // namespace moescope
