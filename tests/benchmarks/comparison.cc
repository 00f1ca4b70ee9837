#include "tests/benchmarks/comparison.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

#include "moescope/base/status_macros.h"

namespace moescope::benchmarks {
namespace {

// Of what takes a moment, the median of as many runs as fit in this time.
constexpr double kOursSeconds = 0.2;
constexpr double kLongSeconds = 10;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

absl::StatusOr<double> TimeOnce(const TimedWork& work) {
  const auto start = std::chrono::steady_clock::now();
  MOESCOPE_RETURN_IF_ERROR(work());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

absl::StatusOr<double> OurSeconds(const TimedWork& work) {
  std::vector<double> runs;
  double total = 0;
  while (total < kOursSeconds) {
    MOESCOPE_ASSIGN_OR_RETURN(const double seconds, TimeOnce(work));
    runs.push_back(seconds);
    total += seconds;
  }
  return Median(std::move(runs));
}

absl::StatusOr<double> TheirSeconds(const Comparison& comparison,
                                    BaselineProcess& baseline) {
  double total = 0;
  for (const BaselineRow& row : comparison.theirs) {
    MOESCOPE_ASSIGN_OR_RETURN(const double seconds, baseline.Seconds(row));
    total += seconds;
  }
  return total;
}

}  // namespace

absl::StatusOr<Measurement> Compare(const Comparison& comparison,
                                    const Workbench& bench, int rounds) {
  MOESCOPE_ASSIGN_OR_RETURN(const TimedWork work, comparison.prepare(bench));
  MOESCOPE_RETURN_IF_ERROR(work());  // touches memory, starts libraries
  std::vector<double> theirs;
  std::vector<double> ours;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    MOESCOPE_ASSIGN_OR_RETURN(const double their_seconds,
                              TheirSeconds(comparison, bench.baseline));
    MOESCOPE_ASSIGN_OR_RETURN(const double our_seconds, OurSeconds(work));
    theirs.push_back(their_seconds);
    ours.push_back(our_seconds);
    ratios.push_back(their_seconds / our_seconds);
    if (their_seconds > kLongSeconds) break;
  }
  return Measurement{comparison.analysis, comparison.shape,
                     Median(theirs),      Median(ours),
                     Median(ratios),      comparison.demand};
}

std::string AsMarkdown(const std::vector<Measurement>& rows) {
  std::string text =
      "| analysis | shape | theirs | ours | ratio | demand | |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Measurement& row : rows) {
    text += absl::StrFormat("| %s | %s | %.4g s | %.4g s | %.1f | %g | %s |\n",
                            row.analysis, row.shape, row.theirs_seconds,
                            row.ours_seconds, row.ratio, row.demand,
                            row.ratio >= row.demand ? "met" : "MISSED");
  }
  return text;
}

std::string AsJson(const std::vector<Measurement>& rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Measurement& row : rows) {
    list.push_back({{"analysis", row.analysis},
                    {"shape", row.shape},
                    {"theirs_seconds", row.theirs_seconds},
                    {"ours_seconds", row.ours_seconds},
                    {"ratio", row.ratio},
                    {"demand", row.demand}});
  }
  return list.dump(1) + "\n";
}

}  // namespace moescope::benchmarks
