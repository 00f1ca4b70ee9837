#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/analysis_spec.pb.h"
#include "moescope/v1/input.pb.h"
#include "moescope/v1/job.pb.h"

namespace moescope::client {

enum class Command {
  kModelsList,
  kModelsDescribe,
  kModelsLoad,
  kModelsUnload,
  kModelsVerify,
  kModelsTokenize,
  kTrace,
  kSimilarity,
  kNeurons,
  kAnalyze,
  kAnalysesList,
  kAnalysesDescribe,
  kJobsList,
  kJobsShow,
  kJobsWatch,
  kJobsCancel,
  kResultsShow,
  kResultsFetch,
  kServerInfo,
  kServerCache,
};

/// Where tokens come from; all optional.
struct InputArguments {
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> tokens;
  std::optional<std::string> tokens_file;
  std::vector<std::string> corpora;  ///< "LABEL=FILE"
  std::int32_t sequence_tokens = 0;  ///< 0: the server's default

  bool given() const {
    return text.has_value() || file.has_value() || tokens.has_value() ||
           tokens_file.has_value() || !corpora.empty();
  }
};

/// A command line that makes sense.
struct Arguments {
  Command command = Command::kServerInfo;
  std::string server = "127.0.0.1:50051";
  bool json = false;
  bool no_colour = false;
  double timeout_seconds = 0;  ///< 0: none

  std::string subject;  ///< MODEL, JOB, RESULT or the NAME of an analysis
  std::string name;     ///< NAME of `analyze`, TEXT of `tokenize`, --analysis
  InputArguments input;
  std::vector<std::int64_t> layers;
  std::vector<std::string> fields;
  v1::MaskedGroups masked_groups = v1::MASKED_GROUPS_UNSPECIFIED;
  std::vector<std::string> levels;
  std::vector<std::string> projections;
  bool shared = false;
  std::string baseline;
  std::vector<std::pair<std::string, std::string>> settings;  ///< --set
  bool dry_run = false;
  bool detach = false;
  v1::CachePolicy cache_policy = v1::CACHE_POLICY_UNSPECIFIED;
  v1::Priority priority = v1::PRIORITY_UNSPECIFIED;
  std::vector<v1::JobState> states;  ///< Of `jobs list`; empty: all
  std::string model;                 ///< Of `jobs list`; empty: all
  std::string output_file;  ///< -o; empty: standard output
  std::string format;       ///< --format; empty: by extension
};

/// What came of parsing: arguments, or a text and an exit status.
struct ParseOutcome {
  std::optional<Arguments> arguments;
  int exit_code = 0;
  std::string out;  ///< For standard output: help, version
  std::string err;  ///< For standard error: what is wrong
};

/// Reads a command line. Wrong usage gives exit status 2 and names the flag and
/// the allowed values; --help and --version give 0.
ParseOutcome ParseArguments(int argc, const char* const* argv);

/// That `text`, which messages call `what`, is UTF-8. Errors: INVALID_ARGUMENT
/// with the offset of the first wrong byte.
absl::Status CheckUtf8(absl::string_view what, absl::string_view text);

/// "0,3-5" as {0, 3, 4, 5}. Errors: INVALID_ARGUMENT naming the part.
absl::StatusOr<std::vector<std::int64_t>> ParseLayers(absl::string_view text);

/// "1,2 3" as one sequence. Errors: INVALID_ARGUMENT naming what is no id, ""
/// where a comma has none beside it.
absl::StatusOr<v1::TokenIds> ParseTokens(absl::string_view text);

/// The input of a request: --text one sequence; --file and --corpus texts to be
/// cut; --tokens one sequence; --tokens-file one sequence per line, empty lines
/// left out. Errors: INVALID_ARGUMENT naming the flag, and the file with what is
/// wrong with it: that it can't be read, the line, the byte that is not UTF-8.
absl::StatusOr<v1::Input> BuildInput(const InputArguments& arguments);

}  // namespace moescope::client
