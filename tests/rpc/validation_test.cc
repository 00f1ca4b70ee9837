#include "server/rpc/validation_internal.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "server/rpc/call_internal.h"

namespace moescope::internal {
namespace {

TEST(ValidationTest, EmptyRequiredFieldIsNamed) {
  const absl::Status status = RequireField("model", "");

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "model");
}

TEST(ValidationTest, LongRequestIdIsRefusedWithTheLimit) {
  const absl::Status status = CheckRequestId(std::string(129, 'x'));

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "request_id: has 129 characters, at most 128 are allowed");
}

TEST(ValidationTest, PageSizeZeroIsTheDefault) { EXPECT_EQ(*PageSize(0), 50); }

TEST(ValidationTest, PageSizeBeyondTheLimitIsRefused) {
  EXPECT_EQ(PageSize(1001).status().message(),
            "page_size: 1001 is outside [0, 1000]");
}

TEST(ValidationTest, PagesFollowEachOther) {
  const auto first = PageOfNames({"a", "b", "c"}, 2, "");
  ASSERT_TRUE(first.ok());
  const auto second = PageOfNames({"a", "b", "c"}, 2, first->next_page_token);
  ASSERT_TRUE(second.ok());

  EXPECT_EQ(first->begin, 0u);
  EXPECT_EQ(first->end, 2u);
  EXPECT_EQ(second->begin, 2u);
  EXPECT_EQ(second->end, 3u);
  EXPECT_EQ(second->next_page_token, "");
}

TEST(ValidationTest, TokenOutlivesTheEntryThatItNames) {
  const auto page = PageOfNames({"a", "c"}, 2, "after:b");
  ASSERT_TRUE(page.ok());

  EXPECT_EQ(page->begin, 1u);
}

TEST(ValidationTest, ForeignPageTokenIsRefused) {
  EXPECT_EQ(PageOfNames({"a"}, 1, "42").status().message(),
            "page_token: \"42\" is no token of this list");
}

TEST(HostOfPeerTest, LeavesOutWhatDiffersFromConnectionToConnection) {
  EXPECT_EQ(HostOfPeer("ipv4:127.0.0.1:50123"), "127.0.0.1");
  EXPECT_EQ(HostOfPeer("ipv6:[::1]:50123"), "::1");
  EXPECT_EQ(HostOfPeer("ipv6:%5B2001:db8::7%5D:50123"), "2001:db8::7");
  EXPECT_EQ(HostOfPeer("unix:/run/moescope.sock"), "unix");
}

}  // namespace
}  // namespace moescope::internal
