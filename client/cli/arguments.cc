#include "client/cli/arguments.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/near_word.h"
#include "client/export/result_document.h"
#include <CLI/CLI.hpp>

#include "moescope/base/quote_name.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::client {
namespace {

bool IsNumber(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c));
         });
}

// Empty when right: what CLI11 takes for a check.
std::string CheckLayers(const std::string& text) {
  const auto layers = ParseLayers(text);
  return layers.ok() ? "" : std::string(layers.status().message());
}

std::string CheckTokens(const std::string& text) {
  const auto tokens = ParseTokens(text);
  return tokens.ok() ? "" : std::string(tokens.status().message());
}

std::string CheckPair(const std::string& text) {
  const size_t equals = text.find('=');
  return equals == std::string::npos || equals == 0
             ? absl::StrCat("\"", text, "\" is not of the form NAME=VALUE")
             : "";
}

// gRPC would take "127.0.0.1" for port 0 and a port above 65535 for another.
std::string CheckServer(const std::string& text) {
  const size_t colon = text.rfind(':');
  const absl::string_view host = absl::string_view(text).substr(
      0, colon == std::string::npos ? text.size() : colon);
  const bool bracketed =
      host.size() > 2 && host.front() == '[' && host.back() == ']';
  int port = 0;
  if (colon == std::string::npos || host.empty() ||
      host.find_first_of(bracketed ? "/ " : "/:[] ") !=
          absl::string_view::npos ||
      !IsNumber(absl::string_view(text).substr(colon + 1)) ||
      !absl::SimpleAtoi(absl::string_view(text).substr(colon + 1), &port) ||
      port < 1 || port > 65535) {
    return absl::StrCat(QuoteName(text), " is not HOST:PORT");
  }
  return "";
}

std::string CheckSeconds(const std::string& text) {
  double seconds = 0;
  return absl::SimpleAtod(text, &seconds) && seconds >= 0 &&
                 std::isfinite(seconds)
             ? ""
             : absl::StrCat(QuoteName(text), " is no number of seconds");
}

std::string CheckCount(const std::string& text) {
  std::int32_t count = 0;
  return IsNumber(text) && absl::SimpleAtoi(text, &count)
             ? ""
             : absl::StrCat(QuoteName(text),
                            " is no whole number in [0, 2147483647]");
}

std::string CheckFormat(const std::string& text) {
  const auto format = ParseFileFormat(text);
  return format.ok() ? "" : std::string(format.status().message());
}

// Builds the tree of commands; the texts that need a second look are kept.
class CommandLine {
 public:
  CommandLine() : app_("Looks inside Mixture-of-Experts models on a server.") {
    app_.name("moescope");
    app_.set_version_flag("--version",
                          std::string("moescope ") + MOESCOPE_VERSION);
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.add_option("--server", a_.server, "Address, HOST:PORT")
        ->check(CheckServer)
        ->capture_default_str();
    app_.add_option("--output", output_, "What standard output gets")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
    app_.add_flag("--no-colour,--no-color", a_.no_colour,
                  "Plain characters instead of shades");
    app_.add_option("--timeout", a_.timeout_seconds,
                    "Seconds for each call; 0: no limit")
        ->check(CheckSeconds);
    AddModels();
    AddTrace();
    AddSimilarity();
    AddNeurons();
    AddAnalyze();
    AddOthers();
  }

  // `words`: those after the program's name.
  ParseOutcome Parse(std::vector<std::string> words) {
    ParseOutcome outcome;
    try {
      // CLI11 takes them from the end.
      std::reverse(words.begin(), words.end());
      app_.parse(std::move(words));
      Finish();
    } catch (const CLI::ParseError& error) {
      std::ostringstream out;
      std::ostringstream err;
      outcome.exit_code = app_.exit(error, out, err) == 0 ? 0 : 2;
      outcome.out = out.str();
      const std::string unknown = outcome.exit_code == 0 ? "" : UnknownWord();
      outcome.err = unknown.empty() ? err.str() : unknown;
      return outcome;
    }
    outcome.arguments = std::move(a_);
    return outcome;
  }

 private:
  // About the word that is no command where one should stand, or no option;
  // empty where the words are known.
  std::string UnknownWord() const {
    const CLI::App* at = &app_;
    while (!at->get_subcommands().empty()) {
      at = at->get_subcommands().front();
    }
    // A group leaves to its parent what it does not know.
    const std::vector<std::string> words = app_.remaining(true);
    if (words.empty()) {
      return "";
    }
    const std::string& word = words.front();
    const std::vector<const CLI::App*> known = at->get_subcommands({});
    if (absl::StartsWith(word, "-")) {
      return known.empty() ? UnknownOption(word) : "";
    }
    return known.empty() ? "" : UnknownCommand(word, known);
  }

  static std::string UnknownOption(const std::string& word) {
    return absl::StrCat(QuoteName(word),
                        " is no option here; a value that begins with \"-\" "
                        "stands after --\nRun with --help for more "
                        "information.\n");
  }

  static std::string UnknownCommand(const std::string& word,
                                    const std::vector<const CLI::App*>& known) {
    std::vector<std::string> names;
    for (const CLI::App* command : known) {
      names.push_back(command->get_name());
    }
    const std::string near = NearWord(word, names);
    return absl::StrCat(
        QuoteName(word), " is no command; there are: ",
        absl::StrJoin(names, " "), "\n",
        near.empty() ? "" : absl::StrCat("did you mean ", near, "?\n"),
        "Run with --help for more information.\n");
  }

  CLI::App* Group(const char* name, const char* text) {
    CLI::App* group = app_.add_subcommand(name, text);
    group->require_subcommand(1);
    group->fallthrough();
    return group;
  }

  static const char* MeaningOf(absl::string_view subject) {
    if (subject == "MODEL") {
      return "As `models list` names it, or its folder below the model root";
    }
    if (subject == "JOB") {
      return "Its id";
    }
    return subject == "RESULT" ? "Its name, or the id of its job"
                               : "As `analyses list` names it";
  }

  // Takes one word each time, so that the next one may be MODEL.
  static CLI::Option* AddList(CLI::App* leaf, const char* name,
                              std::vector<std::string>& values,
                              const char* text) {
    return leaf->add_option(name, values, text)
        ->delimiter(',')
        ->allow_extra_args(false);
  }

  CLI::App* Leaf(CLI::App* parent, const char* name, const char* text,
                 Command command) {
    CLI::App* leaf = parent->add_subcommand(name, text);
    leaf->fallthrough();
    leaf->callback([this, command] { a_.command = command; });
    return leaf;
  }

  CLI::App* LeafOf(CLI::App* parent, const char* name, const char* text,
                   Command command, const char* subject) {
    CLI::App* leaf = Leaf(parent, name, text, command);
    leaf->add_option(subject, a_.subject, MeaningOf(subject))->required();
    return leaf;
  }

  void AddInput(CLI::App* leaf, bool corpora) {
    std::vector<CLI::Option*> sources = {
        leaf->add_option("--text", a_.input.text, "One sequence"),
        leaf->add_option("--file", a_.input.file, "A text, cut into sequences"),
        leaf->add_option("--tokens", a_.input.tokens,
                         "Ids of one sequence: 1,2,3")
            ->check(CheckTokens),
        leaf->add_option("--tokens-file", a_.input.tokens_file,
                         "Ids, one sequence per line")};
    leaf->add_option("--sequence-tokens", a_.input.sequence_tokens,
                     "Length of the sequences that texts are cut into")
        ->check(CheckCount);
    if (corpora) {
      sources.push_back(
          leaf->add_option("--corpus", a_.input.corpora,
                           "LABEL=FILE, a text, cut into sequences; may be "
                           "repeated. The label is kept with the result; no "
                           "statistic is split by it")
              ->allow_extra_args(false)
              ->check(CheckPair));
    }
    // CLI11 makes an exclusion mutual.
    for (std::size_t i = 1; i < sources.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        sources[i]->excludes(sources[j]);
      }
    }
  }

  void AddLayers(CLI::App* leaf) {
    leaf->add_option("--layers", layers_, "Such as 0,3-5; default: all")
        ->check(CheckLayers);
  }

  // Gives the option of the file.
  CLI::Option* AddOutput(CLI::App* leaf) {
    CLI::Option* const file =
        leaf->add_option("-o,--output-file", output_file_,
                         "File: .safetensors, .npz, .json, .jsonl or .csv");
    leaf->add_option("--format", a_.format,
                     "Instead of what the file's extension says")
        ->check(CheckFormat)
        ->needs(file);
    return file;
  }

  void AddCachePolicy(CLI::App* leaf) {
    CLI::Option* const refresh =
        leaf->add_flag("--refresh", refresh_,
                       "Compute it anew, and keep the new answer for others");
    leaf->add_flag("--no-cache", no_cache_,
                   "Compute it anew, for this call alone")
        ->excludes(refresh);
  }

  void AddModels() {
    CLI::App* models = Group("models", "Checkpoints of the server");
    Leaf(models, "list", "All models", Command::kModelsList);
    LeafOf(models, "describe", "One model", Command::kModelsDescribe, "MODEL");
    LeafOf(models, "load", "Bring a model into memory", Command::kModelsLoad,
           "MODEL")
        ->add_flag("--dry-run", a_.dry_run,
                   "Only say what it needs and what would be evicted");
    LeafOf(models, "unload", "Give a model's memory back",
           Command::kModelsUnload, "MODEL");
    LeafOf(models, "verify",
           "Read a model's weights again and compare their hashes",
           Command::kModelsVerify, "MODEL");
    LeafOf(models, "tokenize", "Text to token ids", Command::kModelsTokenize,
           "MODEL")
        ->add_option("TEXT", a_.name,
                     "One that begins with \"-\" stands after --")
        ->required();
  }

  void AddTrace() {
    CLI::App* trace = LeafOf(&app_, "trace", "Which experts each token goes to",
                             Command::kTrace, "MODEL");
    AddInput(trace, false);
    AddLayers(trace);
    AddList(trace, "--fields", a_.fields,
            "Separated by commas, among ids,weights,logits,scores,margin,"
            "entropy,choice,group_mask,shared_share, and with attention_ "
            "before it each of the first six for jetmoe's attention; default "
            "ids,weights,logits");
    trace
        ->add_option("--masked-groups", masked_groups_,
                     "What experts of groups that the router does not keep "
                     "compare as; default: as the model has it")
        ->check(CLI::IsMember(spec::MaskedGroupsWords()));
    AddCachePolicy(trace);
    AddOutput(trace);
  }

  void AddSimilarity() {
    CLI::App* similarity =
        LeafOf(&app_, "similarity", "How similar experts' weights are; S stands for the shared "
               "experts, F for the dense baseline",
               Command::kSimilarity, "MODEL");
    AddList(similarity, "--level", a_.levels,
            "Separated by commas, among matrix,neuron_average,router; default: "
            "all");
    AddWeights(similarity);
    AddCachePolicy(similarity);
    AddOutput(similarity);
  }

  void AddWeights(CLI::App* leaf) {
    AddList(leaf, "--projections", a_.projections,
            "Separated by commas, among gate_proj,up_proj,down_proj; default: "
            "all");
    AddLayers(leaf);
    leaf->add_flag("--shared", a_.shared,
                   "The shared experts of a layer take part as S, together "
                   "one wide expert");
    leaf->add_option("--baseline", a_.baseline,
                     "A dense model whose feed-forward block of the layer "
                     "takes part as F");
  }

  void AddNeurons() {
    CLI::App* neurons = LeafOf(
        &app_, "neurons",
        "Statistics of neurons' weights, and of activations when text is given",
        Command::kNeurons, "MODEL");
    AddInput(neurons, true);
    AddWeights(neurons);
    AddCachePolicy(neurons);
    AddOutput(neurons);
  }

  void AddAnalyze() {
    CLI::App* analyze = LeafOf(&app_, "analyze", "Any analysis, as a job",
                               Command::kAnalyze, "MODEL");
    analyze->add_option("NAME", a_.name, "See `analyses list`")->required();
    analyze
        ->add_option("--set", settings_,
                     "Parameter as key=value, the value as JSON; may be "
                     "repeated")
        ->allow_extra_args(false)
        ->check(CheckPair);
    AddInput(analyze, true);
    analyze->add_option("--baseline", a_.baseline,
                        "A second model to compare with");
    AddCachePolicy(analyze);
    analyze
        ->add_option("--priority", priority_,
                     "interactive goes before batch; default: batch")
        ->check(CLI::IsMember({"interactive", "batch"}));
    CLI::Option* const file = AddOutput(analyze);
    CLI::Option* const dry_run =
        analyze->add_flag("--dry-run", a_.dry_run, "Only check and estimate")
            ->excludes(file);
    analyze->add_flag("--detach", a_.detach, "Leave the job and print its id")
        ->excludes(dry_run)
        ->excludes(file);
  }

  void AddOthers() {
    CLI::App* analyses = Group("analyses", "What the server can compute");
    Leaf(analyses, "list", "All analyses", Command::kAnalysesList);
    LeafOf(analyses, "describe", "Parameters, definition, models that fit",
           Command::kAnalysesDescribe, "NAME");
    CLI::App* jobs = Group("jobs", "Work on the server");
    AddJobsList(jobs);
    LeafOf(jobs, "show", "One job", Command::kJobsShow, "JOB");
    LeafOf(jobs, "watch", "Follow a job to its end", Command::kJobsWatch,
           "JOB");
    LeafOf(jobs, "cancel", "Stop a job", Command::kJobsCancel, "JOB");
    CLI::App* results = Group("results", "Answers");
    LeafOf(results, "show", "Length, digest, provenance", Command::kResultsShow,
           "RESULT");
    AddOutput(LeafOf(results, "fetch", "Write a result into a file",
                     Command::kResultsFetch, "RESULT"))
        ->required();
    CLI::App* server = Group("server", "The server itself");
    Leaf(server, "info", "Versions, devices, limits, numerics",
         Command::kServerInfo);
    Leaf(server, "cache", "What the result cache holds", Command::kServerCache);
  }

  void AddJobsList(CLI::App* jobs) {
    CLI::App* list =
        Leaf(jobs, "list", "Jobs, newest first", Command::kJobsList);
    AddList(list, "--state", states_,
            "Only those in one of these states, separated by commas")
        ->check(CLI::IsMember({"queued", "running", "succeeded", "failed",
                               "cancelled", "expired"}));
    list->add_option("--analysis", a_.name, "Only those of this analysis");
    list->add_option("--model", a_.model, "Only those that name this model");
  }

  // Words of the command line as values of the contract.
  void TakeChoices() {
    if (refresh_ || no_cache_) {
      a_.cache_policy = refresh_ ? v1::CACHE_POLICY_REFRESH
                                 : v1::CACHE_POLICY_BYPASS;
    }
    if (!priority_.empty()) {
      a_.priority = priority_ == "batch" ? v1::PRIORITY_BATCH
                                         : v1::PRIORITY_INTERACTIVE;
    }
    if (!masked_groups_.empty()) {
      v1::MaskedGroups_Parse(
          absl::StrCat("MASKED_GROUPS_",
                       absl::AsciiStrToUpper(masked_groups_)),
          &a_.masked_groups);
    }
    for (const std::string& state : states_) {
      v1::JobState value = v1::JOB_STATE_UNSPECIFIED;
      v1::JobState_Parse(
          absl::StrCat("JOB_STATE_", absl::AsciiStrToUpper(state)), &value);
      a_.states.push_back(value);
    }
  }

  // What one option's check can't see.
  void Finish() {
    a_.json = output_ == "json";
    CheckWords();
    TakeChoices();
    if (!layers_.empty()) {
      a_.layers = *ParseLayers(layers_);
    }
    for (const std::string& setting : settings_) {
      a_.settings.push_back(absl::StrSplit(setting, absl::MaxSplits('=', 1)));
    }
    CheckSettings();
    RefuseIgnored();
    a_.output_file = output_file_.value_or("");
    if (output_file_ == "") {
      throw CLI::ValidationError("-o", "\"\" names no file");
    }
    if (!a_.output_file.empty() && a_.format.empty()) {
      const auto format = FormatOfPath(a_.output_file);
      if (!format.ok()) {
        throw CLI::ValidationError(
            "-o", absl::StrCat(a_.output_file, ": ",
                               std::string(format.status().message())));
      }
    }
    if (a_.command == Command::kTrace && !a_.input.given()) {
      throw CLI::RequiredError(
          "one of --text, --file, --tokens, --tokens-file");
    }
  }

  // That no parameter is given twice.
  void CheckSettings() const {
    std::set<std::string> seen;
    for (const auto& [name, value] : a_.settings) {
      if (name == "model") {
        throw CLI::ValidationError("--set", "model is the argument MODEL");
      }
      if (name == "baseline" && !a_.baseline.empty()) {
        throw CLI::ValidationError("--set", "baseline excludes --baseline");
      }
      if (name == "input") {
        throw CLI::ValidationError(
            "--set", "input is given by --text, --file, --tokens, "
                     "--tokens-file or --corpus");
      }
      // Both words name one parameter.
      if (!seen.insert(name == "level" ? "levels" : name).second) {
        throw CLI::ValidationError(
            "--set", absl::StrCat(QuoteName(name), " is given twice"));
      }
    }
  }

  // What is given and would change nothing.
  void RefuseIgnored() const {
    const bool routers_alone =
        !a_.levels.empty() &&
        std::all_of(a_.levels.begin(), a_.levels.end(),
                    [](const std::string& level) { return level == "router"; });
    if (routers_alone && !a_.projections.empty()) {
      throw CLI::ValidationError("--projections",
                                 "--level router has no projections");
    }
    if (routers_alone && (a_.shared || !a_.baseline.empty())) {
      throw CLI::ValidationError(
          a_.shared ? "--shared" : "--baseline",
          "takes no part at --level router: it has no router row");
    }
    if (a_.input.sequence_tokens > 0 && !a_.input.file.has_value() &&
        a_.input.corpora.empty()) {
      throw CLI::ValidationError("--sequence-tokens",
                                 "only --file and --corpus are cut");
    }
  }

  // Requests hold nothing but UTF-8. Paths stay as the file system has them,
  // and --text is looked at with the other inputs.
  void CheckWords() const {
    const auto check = [](const char* what, const std::string& text) {
      const absl::Status status = CheckUtf8(what, text);
      if (!status.ok()) {
        throw CLI::ValidationError(std::string(status.message()));
      }
    };
    check("MODEL, JOB, RESULT or NAME", a_.subject);
    check(a_.command == Command::kModelsTokenize ? "TEXT" : "NAME", a_.name);
    check("--baseline", a_.baseline);
    check("--model", a_.model);
    for (const std::string& setting : settings_) check("--set", setting);
    for (const std::string& field : a_.fields) check("--fields", field);
    for (const std::string& level : a_.levels) check("--level", level);
    for (const std::string& projection : a_.projections) {
      check("--projections", projection);
    }
  }

  CLI::App app_;
  Arguments a_;
  std::string output_ = "table";
  std::optional<std::string> output_file_;
  std::string layers_;
  std::string priority_;
  std::string masked_groups_;
  bool refresh_ = false;
  bool no_cache_ = false;
  std::vector<std::string> states_;
  std::vector<std::string> settings_;
};

}  // namespace

ParseOutcome ParseArguments(int argc, const char* const* argv) {
  std::vector<std::string> words;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    const absl::string_view word = argv[i];
    options = options && word != "--";
    const bool empty = options && word.size() > 3 &&
                       absl::StartsWith(word, "--") && word.back() == '=';
    words.emplace_back(word.substr(0, word.size() - (empty ? 1 : 0)));
    // Of "--server=" CLI11 would take the next word for the value.
    if (empty) {
      words.emplace_back();
    }
  }
  return CommandLine().Parse(std::move(words));
}

}  // namespace moescope::client
