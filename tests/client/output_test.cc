#include "client/cli/output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "moescope/base/file.h"

namespace moescope::client {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class OutputFileTest : public ::testing::Test {
 protected:
  OutputFileTest() {
    folder_ = ::testing::TempDir() + "moescope_output_" +
              std::to_string(::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_ + "/other");
  }
  ~OutputFileTest() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) { return folder_ + "/" + name; }
  static std::string Content(const std::string& path) {
    return ReadFile(path, 1000).value_or("unreadable");
  }

  std::string folder_;
};

TEST_F(OutputFileTest, KeepsTheModeOfTheFileThatItReplaces) {
  const std::string path = Path("x.json");
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);

  ASSERT_TRUE(CheckOutputFile(path).ok());
  ASSERT_TRUE(WriteOutputFile(path, "new").ok());

  EXPECT_EQ(Content(path), "new");
  EXPECT_EQ(fs::status(path).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(OutputFileTest, FollowsALinkToAFile) {
  ASSERT_TRUE(WriteFileAtomically(Path("other/x.json"), "old").ok());
  fs::create_symlink("other/x.json", Path("link.json"));

  ASSERT_TRUE(CheckOutputFile(Path("link.json")).ok());
  ASSERT_TRUE(WriteOutputFile(Path("link.json"), "new").ok());

  EXPECT_TRUE(fs::is_symlink(Path("link.json")));
  EXPECT_EQ(Content(Path("other/x.json")), "new");
}

TEST_F(OutputFileTest, MakesTheFileThatALinkNames) {
  fs::create_symlink("other/x.json", Path("second.json"));
  fs::create_symlink("second.json", Path("first.json"));

  ASSERT_TRUE(CheckOutputFile(Path("first.json")).ok());
  ASSERT_TRUE(WriteOutputFile(Path("first.json"), "new").ok());

  EXPECT_TRUE(fs::is_symlink(Path("first.json")));
  EXPECT_TRUE(fs::is_symlink(Path("second.json")));
  EXPECT_EQ(Content(Path("other/x.json")), "new");
}

TEST_F(OutputFileTest, RefusesLinksInACircle) {
  fs::create_symlink("b.json", Path("a.json"));
  fs::create_symlink("a.json", Path("b.json"));

  const absl::Status status = CheckOutputFile(Path("a.json"));

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("-o: \"" + Path("a.json") + "\" is a link"));
}

TEST_F(OutputFileTest, WritesToAFifoAsItStands) {
  const std::string path = Path("fifo.csv");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  // A reader that is there already, so that the writer does not wait for one.
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);

  EXPECT_TRUE(CheckOutputFile(path).ok());
  EXPECT_TRUE(WriteOutputFile(path, "bytes").ok());

  std::string got(5, '\0');
  EXPECT_EQ(::read(reader, got.data(), got.size()), 5);
  EXPECT_EQ(got, "bytes");
  EXPECT_TRUE(fs::is_fifo(path));
  ::close(reader);
}

TEST_F(OutputFileTest, RefusesASocket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = Path("s.npz");
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address),
                   sizeof(address)),
            0);

  const absl::Status status = CheckOutputFile(path);

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("-o: \"" + path));
  ::close(socket);
}

}  // namespace
}  // namespace moescope::client
