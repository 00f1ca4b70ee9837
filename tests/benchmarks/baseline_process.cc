#include "tests/benchmarks/baseline_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"

namespace moescope::benchmarks {
namespace {

absl::Status LastError(const char* what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

absl::Status WriteAll(int file, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return LastError("writing to the baseline");
    done += static_cast<std::size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BaselineProcess>> BaselineProcess::Start(
    const std::string& python, const std::string& script, int threads) {
  std::array<int, 2> requests = {-1, -1};
  std::array<int, 2> replies = {-1, -1};
  if (::pipe2(requests.data(), O_CLOEXEC) != 0 ||
      ::pipe2(replies.data(), O_CLOEXEC) != 0) {
    return LastError("pipe");
  }
  ::signal(SIGPIPE, SIG_IGN);
  const std::string threads_flag = absl::StrCat("--threads=", threads);
  std::unique_ptr<BaselineProcess> process(new BaselineProcess);
  process->pid_ = ::fork();
  if (process->pid_ < 0) return LastError("fork");
  if (process->pid_ == 0) {
    ::dup2(requests[0], STDIN_FILENO);
    ::dup2(replies[1], STDOUT_FILENO);
    ::execlp(python.c_str(), python.c_str(), script.c_str(), "--serve",
             threads_flag.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(requests[0]);
  ::close(replies[1]);
  process->to_child_ = requests[1];
  process->from_child_ = replies[0];
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json rows,
                            process->Ask({{"rows", true}}));
  for (const nlohmann::json& row : rows) {
    process->rows_.push_back(
        {row.at("analysis").get<std::string>(), row.at("shape")});
  }
  return process;
}

BaselineProcess::~BaselineProcess() {
  if (to_child_ >= 0) ::close(to_child_);
  if (from_child_ >= 0) ::close(from_child_);
  if (pid_ > 0) {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
}

absl::StatusOr<nlohmann::json> BaselineProcess::Ask(
    const nlohmann::json& request) {
  MOESCOPE_RETURN_IF_ERROR(WriteAll(to_child_, request.dump() + "\n"));
  std::size_t end = pending_.find('\n');
  while (end == std::string::npos) {
    std::array<char, 4096> buffer;
    const ssize_t n = ::read(from_child_, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return LastError("reading from the baseline");
    if (n == 0) {
      return absl::FailedPreconditionError(
          "the baseline ended; it needs Python with numpy, scipy, "
          "scikit-learn and torch (deploy/setup.sh bench)");
    }
    pending_.append(buffer.data(), static_cast<std::size_t>(n));
    end = pending_.find('\n');
  }
  const nlohmann::json reply =
      nlohmann::json::parse(pending_.substr(0, end), nullptr, false);
  pending_.erase(0, end + 1);
  if (reply.is_discarded()) {
    return absl::InternalError("the baseline's reply is no JSON");
  }
  return reply;
}

absl::StatusOr<std::int64_t> BaselineProcess::IndexOf(
    const BaselineRow& row) const {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].analysis == row.analysis && rows_[i].shape == row.shape) {
      return static_cast<std::int64_t>(i);
    }
  }
  return absl::NotFoundError(absl::StrCat("the baseline has no row ",
                                          row.analysis, " ", row.shape.dump()));
}

absl::StatusOr<double> BaselineProcess::Seconds(const BaselineRow& row) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t index, IndexOf(row));
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json reply, Ask({{"run", index}}));
  return reply.at("seconds").get<double>();
}

absl::StatusOr<std::vector<float>> BaselineProcess::Similarity(
    const BaselineRow& row) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t index, IndexOf(row));
  std::array<char, 64> path = {"/tmp/moescope-bench-XXXXXX"};
  const int file = ::mkstemp(path.data());
  if (file < 0) return LastError("temporary file");
  ::close(file);
  const absl::Cleanup remove = [&path] { std::remove(path.data()); };
  MOESCOPE_ASSIGN_OR_RETURN(
      const nlohmann::json reply,
      Ask({{"similarity", index}, {"path", path.data()}}));
  const auto size = reply.at("size").get<std::size_t>();
  std::vector<float> matrix(size * size);
  std::ifstream stream(path.data(), std::ios::binary);
  stream.read(reinterpret_cast<char*>(matrix.data()),
              static_cast<std::streamsize>(matrix.size() * sizeof(float)));
  if (!stream) return absl::InternalError("the baseline's matrix is too short");
  return matrix;
}

}  // namespace moescope::benchmarks
