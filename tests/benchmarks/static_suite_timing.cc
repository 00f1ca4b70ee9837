// Times static_suite on a checkpoint against one sequential read of the same
// files, and says how much anonymous memory it took.
//
//   static_suite_timing FOLDER [THREADS] [cold]
//
// cold: the files are dropped from the page cache before each reading, and the
// content hash is computed along; else they are read once beforehand, and the
// identity counts as known.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/tree_hash.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope {
namespace {

constexpr std::size_t kReadBytes = std::size_t{16} << 20;

class NoSink final : public analysis::ChunkSink {
  absl::Status Emit(spec::Chunk) override { return absl::OkStatus(); }
  absl::Status SaveState(std::string) override { return absl::OkStatus(); }
};

void DropFromPageCache(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

double ReadSeconds(const std::vector<std::string>& paths) {
  const absl::Time started = absl::Now();
  std::vector<char> buffer(kReadBytes);
  for (const std::string& path : paths) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    while (read(file, buffer.data(), buffer.size()) > 0) {
    }
    close(file);
  }
  return absl::ToDoubleSeconds(absl::Now() - started);
}

// Anonymous memory of this process now, in MiB.
double AnonymousMiB() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (absl::StartsWith(line, "RssAnon:")) {
      return std::strtod(line.c_str() + 8, nullptr) / 1024;
    }
  }
  return 0;
}

int Time(const std::string& folder, int threads, bool cold) {
  auto checkpoint = model::Checkpoint::Open(folder);
  if (!checkpoint.ok()) {
    std::cerr << checkpoint.status() << "\n";
    return 1;
  }
  std::vector<std::string> paths;
  for (const auto& file : (*checkpoint)->weight_files()) {
    paths.push_back(file->path());
  }
  const double gigabytes =
      static_cast<double>((*checkpoint)->weight_bytes()) / 1e9;
  if (cold) {
    DropFromPageCache(paths);
  } else {
    ReadSeconds(paths);
  }
  const double read = ReadSeconds(paths);
  if (cold) {
    DropFromPageCache(paths);
  }
  spec::StaticSuiteSpec asked;
  asked.model = "model";
  spec::AnalysisSpec spec = asked;
  absl::Status status = spec::Normalise(
      analysis::FactsOf(**checkpoint, "model"), nullptr, {}, spec);
  analysis::ModelInputs inputs;
  inputs.checkpoint = *checkpoint;
  if (cold) {
    inputs.hasher = std::make_shared<model::TreeHasher>(**checkpoint);
  }
  ThreadPool pool(threads);
  NoSink sink;
  std::atomic<bool> running{true};
  std::atomic<double> peak{0};
  std::thread watcher([&] {
    while (running) {
      peak = std::max(peak.load(), AnonymousMiB());
      absl::SleepFor(absl::Milliseconds(10));
    }
  });
  const absl::Time started = absl::Now();
  if (status.ok()) {
    status = analysis::Run(spec, inputs, {}, pool, RunContext(), sink);
  }
  const double suite = absl::ToDoubleSeconds(absl::Now() - started);
  running = false;
  watcher.join();
  std::cout << (cold ? "cold, with content hash" : "page-cached") << ", "
            << threads << " threads, " << gigabytes << " GB: read " << read
            << " s, static_suite " << suite << " s (" << gigabytes / suite
            << " GB/s), ratio " << suite / read << ", anonymous memory "
            << peak << " MiB, " << status << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace moescope

int main(int argc, char** argv) {
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  bool cold = false;
  for (int i = 2; i < argc; ++i) {
    cold |= std::string(argv[i]) == "cold";
    int number = 0;
    threads = absl::SimpleAtoi(argv[i], &number) ? number : threads;
  }
  if (argc < 2 || threads < 1) {
    std::cerr << "usage: static_suite_timing FOLDER [THREADS] [cold]\n";
    return 2;
  }
  return moescope::Time(argv[1], threads, cold);
}
