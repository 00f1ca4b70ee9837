// Times static_suite on a checkpoint against the larger of two bounds: one
// sequential read of the same files, and the arithmetic floor of this machine. All
// are measured in turn, the best of several rounds counts.
//
//   static_suite_timing FOLDER [THREADS] [cold] [rounds=N]
//
// cold: the files are dropped from the page cache before each reading, and the
// content hash is computed along; else they were read once beforehand, and the
// identity counts as known.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/benchmarks/arithmetic_floor.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/tree_hash.h"
#include "moescope/numerics/instruction_set.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope {
namespace {

constexpr std::size_t kReadBytes = std::size_t{16} << 20;
constexpr std::size_t kPageBytes = 4096;
// static_suite is to take no more than so many times the larger bound.
constexpr double kPageCachedDemand = 1.2;
constexpr double kColdDemand = 1.3;

class NoSink final : public analysis::ChunkSink {
  absl::Status Emit(spec::Chunk) override { return absl::OkStatus(); }
  absl::Status SaveState(std::string) override { return absl::OkStatus(); }
};

struct Options {
  std::string folder;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int rounds = 5;
  bool cold = false;
};

// On the clock, and of all threads on the processor: others may be running.
struct Seconds {
  double wall = std::numeric_limits<double>::infinity();
  double processor = std::numeric_limits<double>::infinity();

  void KeepBest(const Seconds& other) {
    wall = std::min(wall, other.wall);
    processor = std::min(processor, other.processor);
  }
};

class Stopwatch {
 public:
  Seconds Elapsed() const {
    return {absl::ToDoubleSeconds(absl::Now() - started_),
            ProcessorSeconds() - processor_};
  }

 private:
  static double ProcessorSeconds() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_nsec) * 1e-9;
  }

  absl::Time started_ = absl::Now();
  double processor_ = ProcessorSeconds();
};

void DropFromPageCache(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
  }
}

Seconds TimeRead(const std::vector<std::string>& paths) {
  // At a page: the kernel copies to other addresses at a third of the rate.
  std::vector<char> memory(kReadBytes + kPageBytes);
  void* buffer = memory.data();
  std::size_t room = memory.size();
  std::align(kPageBytes, kReadBytes, buffer, room);
  const Stopwatch watch;
  for (const std::string& path : paths) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    while (read(file, buffer, kReadBytes) > 0) {
    }
    close(file);
  }
  return watch.Elapsed();
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

struct SuiteRun {
  absl::Status status;
  Seconds seconds;
  double anonymous_mib = 0;
};

// With the checkpoint opened anew: mapped pages would save later rounds the
// faults of the first.
SuiteRun TimeSuite(const Options& options, ThreadPool& pool) {
  auto checkpoint = model::Checkpoint::Open(options.folder);
  if (!checkpoint.ok()) {
    return {checkpoint.status(), {}, 0};
  }
  spec::StaticSuiteSpec asked;
  asked.model = "model";
  spec::AnalysisSpec spec = asked;
  SuiteRun run;
  run.status = spec::Normalise(analysis::FactsOf(**checkpoint, "model"), nullptr,
                               {}, spec);
  if (!run.status.ok()) {
    return run;
  }
  analysis::ModelInputs inputs;
  inputs.checkpoint = *checkpoint;
  if (options.cold) {
    inputs.hasher = std::make_shared<model::TreeHasher>(**checkpoint);
  }
  NoSink sink;
  std::atomic<bool> running{true};
  std::atomic<double> peak{0};
  std::thread watcher([&] {
    while (running) {
      peak = std::max(peak.load(), AnonymousMiB());
      absl::SleepFor(absl::Milliseconds(10));
    }
  });
  const Stopwatch watch;
  run.status = analysis::Run(spec, inputs, {}, pool, RunContext(), sink);
  run.seconds = watch.Elapsed();
  running = false;
  watcher.join();
  run.anonymous_mib = peak;
  return run;
}

absl::Status Time(const Options& options) {
  auto checkpoint = model::Checkpoint::Open(options.folder);
  if (!checkpoint.ok()) {
    return checkpoint.status();
  }
  std::vector<std::string> paths;
  for (const auto& file : (*checkpoint)->weight_files()) {
    paths.push_back(file->path());
  }
  const double gigabytes =
      static_cast<double>((*checkpoint)->weight_bytes()) / 1e9;
  auto work = benchmarks::SuiteWork(**checkpoint);
  if (!work.ok()) {
    return work.status();
  }
  // The pages as reading from the disk leaves them: large ones, which are mapped
  // two megabytes at a time. A file that was just written has small ones.
  DropFromPageCache(paths);
  checkpoint->reset();
  TimeRead(paths);
  ThreadPool pool(options.threads);
  Seconds read;
  Seconds suite;
  double floor = std::numeric_limits<double>::infinity();
  double memory = 0;
  for (int round = 0; round < options.rounds; ++round) {
    const auto prepare = [&] {
      if (options.cold) {
        DropFromPageCache(paths);
      }
    };
    prepare();
    read.KeepBest(TimeRead(paths));
    prepare();
    const SuiteRun run = TimeSuite(options, pool);
    if (!run.status.ok()) {
      return run.status;
    }
    suite.KeepBest(run.seconds);
    memory = std::max(memory, run.anonymous_mib);
    auto seconds = benchmarks::FloorSeconds(*work, options.threads);
    if (!seconds.ok()) {
      return seconds.status();
    }
    floor = std::min(floor, *seconds);
  }
  const double demand = options.cold ? kColdDemand : kPageCachedDemand;
  const double bound = options.cold ? read.wall : std::max(read.wall, floor);
  std::cout << (options.cold ? "cold, with content hash" : "page-cached") << ", "
            << options.threads << " threads, " << gigabytes << " GB, kernels "
            << numerics::KernelInstructionSet() << ", best of "
            << options.rounds << "\n  read " << read.wall
            << " s\n  arithmetic floor " << floor
            << " s (the same kernels on data that stays in cache)\n"
            << benchmarks::DescribePeaks(*work, options.threads)
            << "  static_suite " << suite.wall << " s (" << gigabytes / suite.wall
            << " GB/s; on the processor " << suite.processor
            << " s, the read " << read.processor << " s), anonymous memory "
            << memory << " MiB\n  static_suite / (" << demand << " * "
            << (options.cold ? "read" : "max(read, floor)") << ") = "
            << suite.wall / (demand * bound) << ": "
            << (suite.wall <= demand * bound ? "met" : "missed") << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace moescope

int main(int argc, char** argv) {
  // As the server does: freed memory of buffers is kept, not faulted in again.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 8 << 20);
  moescope::Options options;
  for (int i = 2; i < argc; ++i) {
    absl::string_view word = argv[i];
    int number = 0;
    options.cold |= word == "cold";
    if (absl::ConsumePrefix(&word, "rounds=")) {
      options.rounds = absl::SimpleAtoi(word, &number) ? number : 0;
    } else if (absl::SimpleAtoi(word, &number)) {
      options.threads = number;
    }
  }
  if (argc < 2 || options.threads < 1 || options.rounds < 1) {
    std::cerr << "usage: static_suite_timing FOLDER [THREADS] [cold] "
                 "[rounds=N]\n";
    return 2;
  }
  options.folder = argv[1];
  const absl::Status status = moescope::Time(options);
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  return 0;
}
