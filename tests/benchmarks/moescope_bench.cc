// moescope-bench compare: how long this project and the way of the paper's
// public notebooks take for the same question, timed in turn on one machine
// with the same number of threads and the same BLAS kernels.

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/benchmarks/comparison.h"

#include "moescope/base/blas_core.h"
#include "moescope/base/blas_restart.h"
#include "moescope/base/status_macros.h"

namespace moescope::benchmarks {
namespace {

struct Options {
  int threads = 1;
  int rounds = 5;
  bool quick = false;
  std::string only;
  std::string python;  // Empty: the first that has the packages.
  std::string script = MOESCOPE_PAPER_TIMING;
  std::string json;
  std::string markdown;
};

absl::Status WriteFile(const std::string& path, const std::string& text) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << text;
  file.close();
  return file ? absl::OkStatus()
              : absl::UnknownError(absl::StrCat("cannot write ", path));
}

// Debian's interpreter comes first: its torch computes with OpenBLAS, as we do.
absl::StatusOr<std::string> FindPython() {
  for (const char* python : {"/usr/bin/python3", "python3"}) {
    const std::string command = absl::StrCat(
        python, " -c 'import numpy, scipy, sklearn, torch' 2>/dev/null");
    if (std::system(command.c_str()) == 0) return std::string(python);
  }
  return absl::FailedPreconditionError(
      "the baseline needs numpy, scipy, scikit-learn and torch for python3: "
      "deploy/setup.sh bench");
}

absl::Status RunCompare(Options options) {
  if (options.python.empty()) {
    MOESCOPE_ASSIGN_OR_RETURN(options.python, FindPython());
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::unique_ptr<BaselineProcess> baseline,
      BaselineProcess::Start(options.python, options.script, options.threads));
  ThreadPool pool(options.threads);
  const LoadedBlas blas = DescribeLoadedBlas();
  std::cerr << "threads " << options.threads << ", BLAS core " << blas.core
            << ", baseline " << options.python << "\n";
  std::vector<Measurement> rows;
  for (const Comparison& comparison : StaticComparisons()) {
    if (comparison.is_long && options.quick) continue;
    if (!options.only.empty() && comparison.analysis != options.only) continue;
    std::cerr << comparison.analysis << ", " << comparison.shape << " …\n";
    MOESCOPE_ASSIGN_OR_RETURN(
        const Measurement row,
        Compare(comparison, {*baseline, pool}, options.rounds));
    rows.push_back(row);
  }
  std::cout << AsMarkdown(rows);
  MOESCOPE_RETURN_IF_ERROR(WriteFile(options.json, AsJson(rows)));
  return WriteFile(options.markdown, AsMarkdown(rows));
}

int Main(int argc, char** argv) {
  CLI::App app("Benchmarks of moescope");
  app.require_subcommand(1);
  Options options;
  CLI::App* const compare = app.add_subcommand(
      "compare", "Ratios against the paper's way of computing");
  compare->add_option("--threads", options.threads, "Of both sides")
      ->check(CLI::Range(1, 256));
  compare->add_option("--rounds", options.rounds, "Of each row, at most")
      ->check(CLI::Range(1, 100));
  compare->add_flag("--quick", options.quick,
                    "Without assignments of 8192 and 14336 neurons, on which "
                    "the other side takes minutes");
  compare->add_option("--only", options.only, "Rows of this analysis alone");
  compare->add_option("--python", options.python,
                      "Interpreter with numpy, scipy, scikit-learn and torch; "
                      "default: the first of /usr/bin/python3 and python3 "
                      "that has them");
  compare->add_option("--script", options.script, "paper_timing.py");
  compare->add_option("--json", options.json, "File for the rows as JSON");
  compare->add_option("--markdown", options.markdown, "File for the table");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const absl::Status status = RunCompare(options);
  if (!status.ok()) {
    std::cerr << "moescope-bench: " << status << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace moescope::benchmarks

int main(int argc, char** argv) {
  moescope::RestartWithFittingBlas(argv);
  return moescope::benchmarks::Main(argc, argv);
}
