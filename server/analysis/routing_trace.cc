#include "moescope/analysis/routing_trace.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/token_blocks_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/model/forward.h"

namespace moescope::analysis {
namespace {

using internal::LayerName;
using internal::TokenBlock;

// Of any router.
struct RouterFields {
  bool ids = false;
  bool weights = false;
  bool logits = false;
  bool scores = false;
  bool margin = false;
  bool entropy = false;
};

struct Fields {
  RouterFields experts;
  RouterFields attention;
  bool choice = false;
  bool group_mask = false;
  bool shared_share = false;
};

// Before a field and an array of the attention's router.
constexpr const char* kAttention = "attention_";

Fields ParseFields(const std::vector<std::string>& names) {
  const auto has = [&](absl::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const auto of_router = [&](const char* prefix) {
    const auto named = [&](const char* name) {
      return has(absl::StrCat(prefix, name));
    };
    return RouterFields{named("ids"),    named("weights"), named("logits"),
                        named("scores"), named("margin"),  named("entropy")};
  };
  Fields fields;
  fields.experts = of_router("");
  fields.attention = of_router(kAttention);
  fields.choice = has("choice");
  fields.group_mask = has("group_mask");
  fields.shared_share = has("shared_share");
  return fields;
}

template <typename T>
absl::Span<const T> Values(const at::Tensor& tensor) {
  return {tensor.data_ptr<T>(), static_cast<std::size_t>(tensor.numel())};
}

// Dense and within reach of the processor; the tensor itself where it is both.
at::Tensor OnHost(const at::Tensor& tensor) {
  return tensor.to(at::kCPU).contiguous();
}

template <typename T>
spec::Array ToArray(std::string name, const at::Tensor& tensor) {
  const at::Tensor host = OnHost(tensor);
  return spec::MakeArray(std::move(name), host.sizes().vec(), Values<T>(host));
}

spec::Array PerToken(std::string name, const std::vector<float>& values) {
  return spec::MakeArray(std::move(name),
                         {static_cast<std::int64_t>(values.size())},
                         absl::MakeConstSpan(values));
}

// −Σ p ln p with p = score / Σ scores, in nats; 0 ln 0 = 0.
float Entropy(absl::Span<const float> scores) {
  double sum = 0;
  for (const float score : scores) {
    sum += static_cast<double>(score);
  }
  double entropy = 0;
  for (const float score : scores) {
    const double p = static_cast<double>(score) / sum;
    // Written so that a NaN is kept.
    entropy -= p == 0 ? 0 : p * std::log(p);
  }
  return static_cast<float>(sum == 0 ? 0 : entropy);
}

double Norm(absl::Span<const float> row) {
  double sum = 0;
  for (const float value : row) {
    sum += static_cast<double>(value) * static_cast<double>(value);
  }
  return std::sqrt(sum);
}

std::vector<float> Entropies(const at::Tensor& scores) {
  const at::Tensor host = OnHost(scores);  // [T, E]
  const auto experts = static_cast<std::size_t>(host.size(1));
  const absl::Span<const float> all = Values<float>(host);
  std::vector<float> entropies;
  for (std::size_t at = 0; at < all.size(); at += experts) {
    entropies.push_back(Entropy(all.subspan(at, experts)));
  }
  return entropies;
}

// |shared| / (|shared| + |routed|); 0 where both are, and where a layer has no
// shared experts.
std::vector<float> SharedShares(const model::LayerOutput& output) {
  const at::Tensor routed = OnHost(output.routed_output);  // [T, D]
  const auto tokens = static_cast<std::size_t>(routed.size(0));
  const auto width = static_cast<std::size_t>(routed.size(1));
  std::vector<float> shares(tokens, 0.0F);
  if (!output.shared_output.defined()) {
    return shares;
  }
  const at::Tensor shared = OnHost(output.shared_output);  // [T, D]
  for (std::size_t t = 0; t < tokens; ++t) {
    const double s = Norm(Values<float>(shared).subspan(t * width, width));
    const double r = Norm(Values<float>(routed).subspan(t * width, width));
    shares[t] = static_cast<float>(s + r == 0 ? 0 : s / (s + r));
  }
  return shares;
}

std::int64_t CountNonfinite(const at::Tensor& logits) {  // [T, E]
  return at::isfinite(logits).all(1).logical_not().sum().item<std::int64_t>();
}

// Turns what a pass over one block shows into chunks, layer by layer.
class TraceObserver final : public model::ForwardObserver {
 public:
  TraceObserver(const Fields& fields, internal::ChunkEmitter& emitter,
                const RunContext& context)
      : fields_(fields), emitter_(emitter), context_(context) {}

  // To be called before each pass. `progress.done` counts tokens of whole
  // blocks.
  void Start(const Progress& progress, std::int64_t block_tokens,
             std::size_t num_layers) {
    progress_ = progress;
    block_tokens_ = block_tokens;
    num_layers_ = static_cast<std::int64_t>(num_layers);
    layers_done_ = 0;
  }

  absl::Status OnAttentionRouting(
      const model::LayerRouting& routing) override {
    if (emitter_.wanted()) {
      AddRouter(fields_.attention, kAttention, routing);
    }
    return absl::OkStatus();
  }

  absl::Status OnRouting(const model::LayerRouting& routing) override {
    if (emitter_.wanted()) {
      AddRouter(fields_.experts, "", routing);
      AddRest(routing);
    }
    return fields_.shared_share ? absl::OkStatus() : FinishLayer();
  }

  absl::Status OnLayerOutput(const model::LayerOutput& output) override {
    if (!fields_.shared_share) {
      return absl::OkStatus();
    }
    if (emitter_.wanted()) {
      Add(PerToken(LayerName(output.layer, "shared_share"),
                   SharedShares(output)));
    }
    return FinishLayer();
  }

 private:
  void Add(spec::Array array) { pending_.arrays.push_back(std::move(array)); }

  void AddRouter(const RouterFields& fields, const char* prefix,
                 const model::LayerRouting& routing) {
    const auto name = [&](const char* what) {
      return LayerName(routing.layer, absl::StrCat(prefix, what));
    };
    if (fields.ids) {
      Add(ToArray<std::int64_t>(name("topk_ids"), routing.topk_ids));
    }
    if (fields.weights) {
      Add(ToArray<float>(name("topk_weights"), routing.topk_weights));
    }
    if (fields.logits) {
      Add(ToArray<float>(name("router_logits"), routing.logits));
    }
    if (fields.scores) {
      Add(ToArray<float>(name("router_scores"), routing.scores));
    }
    if (fields.margin) {
      Add(ToArray<float>(name("margin"), routing.margin));
    }
    if (fields.entropy) {
      Add(PerToken(name("entropy"), Entropies(routing.scores)));
    }
    // Only where there are some: the bytes of all other results stay.
    if (const std::int64_t count = CountNonfinite(routing.logits); count > 0) {
      Add(spec::MakeArray(name("nonfinite"), {1},
                          absl::MakeConstSpan(&count, 1)));
    }
  }

  void AddRest(const model::LayerRouting& routing) {
    const std::int64_t layer = routing.layer;
    if (fields_.choice) {
      Add(ToArray<float>(LayerName(layer, "choice"), routing.choice));
    }
    if (fields_.group_mask) {
      Add(ToArray<std::int64_t>(LayerName(layer, "group_mask"),
                                routing.group_mask));
    }
    if (routing.depends_on_mask.defined()) {
      Add(ToArray<std::int64_t>(LayerName(layer, "tokens_by_mask"),
                                routing.depends_on_mask.sum(0, true)));
    }
  }

  absl::Status FinishLayer() {
    MOESCOPE_RETURN_IF_ERROR(emitter_.Emit(std::exchange(pending_, {})));
    ++layers_done_;
    Progress now = progress_;
    now.done += block_tokens_ * layers_done_ / num_layers_;
    context_.ReportProgress(now);
    return absl::OkStatus();
  }

  const Fields fields_;
  internal::ChunkEmitter& emitter_;
  const RunContext& context_;
  Progress progress_;
  std::int64_t block_tokens_ = 0;
  std::int64_t num_layers_ = 0;
  std::int64_t layers_done_ = 0;
  spec::Chunk pending_;
};

spec::Chunk InputChunk(const TokenBlock& block) {
  const std::vector<std::int64_t> ids(block.ids.begin(), block.ids.end());
  spec::Chunk chunk;
  chunk.arrays.push_back(spec::MakeArray("input_ids", {block.num_tokens()},
                                         absl::MakeConstSpan(ids)));
  chunk.arrays.push_back(spec::MakeArray(
      "sequence_lengths", {static_cast<std::int64_t>(block.lengths.size())},
      block.lengths));
  return chunk;
}

// `prefix` and `of` tell this router from the others, in names and in words.
void DeclareRouter(const char* prefix, const char* of,
                   std::vector<spec::ArrayDeclaration>& arrays) {
  const auto add = [&](const char* name, spec::DType type,
                       std::vector<std::string> shape, const char* unit,
                       const char* meaning) {
    arrays.push_back({absl::StrCat("layer.{layer}.", prefix, name), type,
                      std::move(shape), unit, absl::StrCat(of, meaning)});
  };
  const auto real = spec::DType::kFloat32;
  add("topk_ids", spec::DType::kInt64, {"T", "K"}, "expert",
      "Chosen experts by falling weight; equal weights in the order in which "
      "they were chosen: larger choice first, then lower number.");
  add("topk_weights", real, {"T", "K"}, "1",
      "What multiplies the output of each chosen expert.");
  add("router_logits", real, {"T", "E"}, "1",
      "The router's output before its score function.");
  add("router_scores", real, {"T", "E"}, "1",
      "The router's softmax or sigmoid over all experts; the provenance's "
      "routing says which.");
  add("margin", real, {"T"}, "1",
      "Lowest score among the chosen minus highest among the others; below 0 "
      "where a correction or groups decide against the scores, +infinity where "
      "all experts are chosen.");
  add("entropy", real, {"T"}, "nats",
      "Entropy of the scores divided by their sum.");
  add("nonfinite", spec::DType::kInt64, {"*"}, "tokens",
      "Tokens with router logits that are NaN or infinite, one number per block "
      "that has any; there only where some are. Their experts mean nothing: a "
      "weight or an activation before this router is no number.");
}

std::vector<spec::ArrayDeclaration> Declarations() {
  const auto real = spec::DType::kFloat32;
  const auto count = spec::DType::kInt64;
  std::vector<spec::ArrayDeclaration> arrays = {
      {"input_ids", count, {"T"}, "token id", "The tokens, in order."},
      {"sequence_lengths",
       count,
       {"*"},
       "tokens",
       "Lengths of the sequences that the tokens are cut into."},
      {"layer.{layer}.choice", real, {"T", "E"}, "1",
       "What experts are chosen by: the score plus the router's correction."},
      {"layer.{layer}.group_mask", count, {"T", "*"}, "1",
       "1 for the groups of experts that stay eligible, 0 for the others."},
      {"layer.{layer}.tokens_by_mask", count, {"*"}, "tokens",
       "Models with groups; one number per block: how many of its tokens would "
       "go to other experts in this layer if those of masked groups compared as "
       "0 instead of -infinity, or the other way round."},
      {"layer.{layer}.shared_share",
       real,
       {"T"},
       "1",
       "|shared| / (|shared| + |routed sum|), L2 norms of the two outputs."},
  };
  DeclareRouter("", "", arrays);
  DeclareRouter(kAttention,
                "Router of the attention, whose experts are groups of query "
                "heads: ",
                arrays);
  return arrays;
}

}  // namespace

spec::AnalysisInfo RoutingTraceInfo() {
  using Spec = spec::RoutingTraceSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "Which experts every token is routed to, layer by layer.";
  info.definition =
      "The model's own routing of every token (or, with masked_groups, that of "
      "the other convention for groups of experts): chosen experts and weights; on "
      "request the logits and scores of all experts, the margin to the first "
      "expert not chosen, the entropy of the scores, and the shared experts' "
      "share of the block's output. Tokens whose logits are not finite are "
      "counted.";
  info.source = "The model's own rule, as its publisher's code has it";
  info.needs_tokens = true;
  info.needs_forward = true;
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"input", internal::kInputMeaning},
       {"layers", internal::kLayersMeaning},
       {"fields",
        "Among ids, weights, logits, scores, margin, entropy, choice (where a "
        "correction makes it differ from the scores), group_mask (where experts "
        "have groups), shared_share (where there are shared experts), and where "
        "the attention has a router of its own each of the first six with "
        "attention_ before it; empty: ids, weights, logits."},
       {"block_tokens", internal::kBlockTokensMeaning},
       {"masked_groups",
        "What the experts of groups that the router does not keep compare as, "
        "in all layers: model (as its publisher has it), zero, "
        "negative_infinity; the latter two for models with groups alone."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunRoutingTrace(const spec::RoutingTraceSpec& spec,
                             const ModelInputs& inputs,
                             const ResumePoint& resume, ThreadPool& pool,
                             const RunContext& context, ChunkSink& sink) {
  if (inputs.model == nullptr) {
    return absl::InternalError("routing_trace without a model");
  }
  const Fields fields = ParseFields(spec.fields);
  model::ForwardRequest request;
  request.layers = spec.layers;
  request.layer_outputs = fields.shared_share;
  request.masked_groups_are_zero = spec.MaskedGroupsAreZero();
  internal::ChunkEmitter emitter(resume, sink);
  TraceObserver observer(fields, emitter, context);
  const auto chunks_per_block =
      1 + static_cast<std::int64_t>(spec.layers.size());
  std::int64_t kept_blocks = resume.chunks / chunks_per_block;
  Progress progress = {"forward pass", 0,
                       static_cast<std::int64_t>(spec.input.ids.size()),
                       "tokens"};
  for (const TokenBlock& block :
       internal::CutIntoBlocks(spec.input, spec.block_tokens)) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    if (kept_blocks > 0) {
      // Not reported: it tells nothing of this run's pace.
      --kept_blocks;
      for (std::int64_t i = 0; i < chunks_per_block; ++i) {
        emitter.Skip();
      }
      progress.done += block.num_tokens();
      continue;
    }
    MOESCOPE_RETURN_IF_ERROR(emitter.Emit(InputChunk(block)));
    observer.Start(progress, block.num_tokens(), spec.layers.size());
    // All layers even where some are kept: another request could change the
    // last bits.
    MOESCOPE_RETURN_IF_ERROR(inputs.model->Forward(
        {block.ids, block.lengths}, request, observer, pool, context));
    progress.done += block.num_tokens();
    context.ReportProgress(progress);
  }
  return absl::OkStatus();
}

}  // namespace moescope::analysis
