#include "moescope/base/page_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include <gtest/gtest.h>

namespace moescope {
namespace {

// Memory that is there once it is touched, as a file's pages are once they are
// read.
class PageCacheTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kPages = 1000;

  PageCacheTest()
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        memory_(static_cast<char*>(mmap(nullptr, kPages * page_,
                                        PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    // Else the first touch would bring in its neighbours as well.
    madvise(memory_, kPages * page_, MADV_NOHUGEPAGE);
  }
  ~PageCacheTest() override { munmap(memory_, kPages * page_); }

  void Touch(std::size_t pages) {
    for (std::size_t i = 0; i < pages; ++i) {
      memory_[i * page_] = 1;
    }
  }

  const std::size_t page_;
  char* const memory_;
};

TEST_F(PageCacheTest, FindsNothingOfWhatWasNeverRead) {
  EXPECT_EQ(CachedShare({memory_, kPages * page_}), 0);
}

TEST_F(PageCacheTest, FindsTheShareThatWasRead) {
  Touch(kPages / 4);

  EXPECT_NEAR(CachedShare({memory_, kPages * page_}), 0.25, 1.0 / 256);
}

TEST_F(PageCacheTest, FindsAllOfWhatWasReadWhole) {
  Touch(kPages);

  // Neither aligned nor of whole pages.
  EXPECT_EQ(CachedShare({memory_ + 100, (kPages - 1) * page_}), 1);
}

TEST(CachedShareTest, OfNothingIsOne) { EXPECT_EQ(CachedShare({}), 1); }

}  // namespace
}  // namespace moescope
