#include "client/cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace moescope::client {
namespace {

using ::testing::HasSubstr;

TEST(CommandsTest, FolderThatTakesNoFileIsFoundBeforeTheServerIsAsked) {
  Arguments arguments;
  arguments.command = Command::kSimilarity;
  arguments.server = "127.0.0.1:1";
  arguments.output_file = "/nowhere/x.npz";

  const absl::Status status = RunCommand(arguments, [] { return false; });

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("-o: folder \"/nowhere\" can't be written to"));
  EXPECT_EQ(ExitCode(status, false), 2);
}

}  // namespace
}  // namespace moescope::client
