#include "client/cli/arguments.h"

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/export/result_document.h"
#include <CLI/CLI.hpp>

namespace moescope::client {
namespace {

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
    app_.add_option("--server", a_.server, "Address, host:port")
        ->capture_default_str();
    app_.add_option("--output", output_, "What standard output gets")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
    app_.add_flag("--no-colour,--no-color", a_.no_colour,
                  "Plain characters instead of shades");
    app_.add_option("--timeout", a_.timeout_seconds,
                    "Seconds for each call; 0: no limit")
        ->check(CLI::NonNegativeNumber);
    AddModels();
    AddTrace();
    AddSimilarity();
    AddNeurons();
    AddAnalyze();
    AddOthers();
  }

  ParseOutcome Parse(int argc, const char* const* argv) {
    ParseOutcome outcome;
    try {
      app_.parse(argc, argv);
      Finish();
    } catch (const CLI::ParseError& error) {
      std::ostringstream out;
      std::ostringstream err;
      outcome.exit_code = app_.exit(error, out, err) == 0 ? 0 : 2;
      outcome.out = out.str();
      outcome.err = UnknownCommand() + err.str();
      return outcome;
    }
    outcome.arguments = std::move(a_);
    return outcome;
  }

 private:
  // A line about the word that stands where a command should, if one does.
  std::string UnknownCommand() const {
    const CLI::App* at = &app_;
    while (!at->get_subcommands().empty()) {
      at = at->get_subcommands().front();
    }
    const std::vector<const CLI::App*> known = at->get_subcommands({});
    // A group leaves to its parent what it does not know.
    const std::vector<std::string> words = app_.remaining(true);
    if (known.empty() || words.empty() || words.front().front() == '-') {
      return "";
    }
    std::string line = absl::StrCat("\"", words.front(),
                                    "\" is no command; there are:");
    for (const CLI::App* command : known) {
      absl::StrAppend(&line, " ", command->get_name());
    }
    return line + "\n";
  }

  CLI::App* Group(const char* name, const char* text) {
    CLI::App* group = app_.add_subcommand(name, text);
    group->require_subcommand(1);
    group->fallthrough();
    return group;
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
    leaf->add_option(subject, a_.subject)->required();
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
        ->check(CLI::NonNegativeNumber);
    if (corpora) {
      sources.push_back(
          leaf->add_option("--corpus", a_.input.corpora,
                           "LABEL=FILE, a labelled text; may be repeated")
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
        leaf->add_option("-o,--output-file", a_.output_file,
                         "File: .safetensors, .npz, .json, .jsonl or .csv");
    leaf->add_option("--format", a_.format,
                     "Instead of what the file's extension says")
        ->check(CheckFormat)
        ->needs(file);
    return file;
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
        ->add_option("TEXT", a_.name)
        ->required();
  }

  void AddTrace() {
    CLI::App* trace = LeafOf(&app_, "trace", "Which experts each token goes to",
                             Command::kTrace, "MODEL");
    AddInput(trace, false);
    AddLayers(trace);
    trace
        ->add_option("--fields", a_.fields,
                     "Among ids,weights,logits,scores,margin,entropy,"
                     "choice,group_mask,shared_share; default "
                     "ids,weights,logits")
        ->delimiter(',');
    AddOutput(trace);
  }

  void AddSimilarity() {
    CLI::App* similarity =
        LeafOf(&app_, "similarity", "How similar experts' weights are",
               Command::kSimilarity, "MODEL");
    similarity
        ->add_option("--level", a_.levels,
                     "Among matrix,neuron_average,router; default: all")
        ->delimiter(',');
    AddWeights(similarity);
    AddOutput(similarity);
  }

  void AddWeights(CLI::App* leaf) {
    leaf->add_option("--projections", a_.projections,
                     "Among gate_proj,up_proj,down_proj; default: all")
        ->delimiter(',');
    AddLayers(leaf);
    leaf->add_flag("--shared", a_.shared, "The shared experts take part");
    leaf->add_option("--baseline", a_.baseline,
                     "A dense model that takes part");
  }

  void AddNeurons() {
    CLI::App* neurons = LeafOf(
        &app_, "neurons",
        "Statistics of neurons' weights, and of activations when text is given",
        Command::kNeurons, "MODEL");
    AddInput(neurons, true);
    AddWeights(neurons);
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
    Leaf(jobs, "list", "All jobs, newest first", Command::kJobsList);
    LeafOf(jobs, "show", "One job", Command::kJobsShow, "JOB");
    LeafOf(jobs, "watch", "Follow a job to its end", Command::kJobsWatch,
           "JOB");
    LeafOf(jobs, "cancel", "Stop a job", Command::kJobsCancel, "JOB");
    CLI::App* results = Group("results", "Answers");
    LeafOf(results, "show", "Length, digest, provenance", Command::kResultsShow,
           "RESULT");
    AddOutput(LeafOf(results, "fetch", "Write a result into a file",
                     Command::kResultsFetch, "RESULT"));
    CLI::App* server = Group("server", "The server itself");
    Leaf(server, "info", "Versions, devices, limits, numerics",
         Command::kServerInfo);
    Leaf(server, "cache", "What the result cache holds", Command::kServerCache);
  }

  // What one option's check can't see.
  void Finish() {
    a_.json = output_ == "json";
    if (!layers_.empty()) {
      a_.layers = *ParseLayers(layers_);
    }
    for (const std::string& setting : settings_) {
      a_.settings.push_back(absl::StrSplit(setting, absl::MaxSplits('=', 1)));
    }
    if (!a_.output_file.empty() && a_.format.empty()) {
      const auto format = FormatOfPath(a_.output_file);
      if (!format.ok()) {
        throw CLI::ValidationError(
            "-o", absl::StrCat(a_.output_file, ": ",
                               std::string(format.status().message())));
      }
    }
    if (a_.command == Command::kResultsFetch && a_.output_file.empty()) {
      throw CLI::RequiredError("-o");
    }
    if (a_.command == Command::kTrace && !a_.input.given()) {
      throw CLI::RequiredError(
          "one of --text, --file, --tokens, --tokens-file");
    }
  }

  CLI::App app_;
  Arguments a_;
  std::string output_ = "table";
  std::string layers_;
  std::vector<std::string> settings_;
};

}  // namespace

ParseOutcome ParseArguments(int argc, const char* const* argv) {
  return CommandLine().Parse(argc, argv);
}

}  // namespace moescope::client
