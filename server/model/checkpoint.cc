#include "moescope/model/checkpoint.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/tokenizer.h"
#include "server/model/checkpoint_files_internal.h"
#include "server/model/families/family_internal.h"
#include "server/model/layer_tensors_internal.h"
#include "server/model/quote_name_internal.h"
#include "server/model/tensor_binder_internal.h"

namespace moescope::model {
namespace {

absl::Status CheckIndex(absl::string_view field, std::int64_t index,
                        std::int64_t count) {
  if (index >= 0 && index < count) return absl::OkStatus();
  return FieldError(
      absl::StatusCode::kOutOfRange, field,
      absl::StrCat(index, " is outside [0, ", count - 1, "]"));
}

absl::Status NotInLayer(std::int64_t layer, absl::string_view what) {
  return FieldError(absl::StatusCode::kFailedPrecondition, "layer",
                    absl::StrCat(layer, " has no ", what));
}

// A vocabulary that is padded beyond the tokenizer's is common; ids without an
// embedding are a contradiction.
absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(
    const std::string& folder, std::int64_t vocab_size) {
  MOESCOPE_ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer,
                            Tokenizer::Load(folder));
  if (tokenizer->vocab_size() > vocab_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the tokenizer's highest token id is ", tokenizer->vocab_size() - 1,
        ", but vocab_size of config.json is ", vocab_size));
  }
  return tokenizer;
}

}  // namespace

Checkpoint::Checkpoint() = default;
Checkpoint::~Checkpoint() = default;

absl::StatusOr<std::shared_ptr<const Checkpoint>> Checkpoint::Open(
    const std::string& folder) {
  MOESCOPE_ASSIGN_OR_RETURN(internal::CheckpointFiles files,
                            internal::OpenCheckpointFiles(folder));
  std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  absl::StatusOr<ModelConfig> config = ParseConfig(files.config_text);
  if (!config.ok()) return Annotate(config.status(), "config.json");
  checkpoint->config_ = *std::move(config);
  const internal::Family* const family =
      internal::FamilyOf(checkpoint->config_);
  auto by_role = std::make_unique<internal::ModelTensors>();
  by_role->layers.resize(
      static_cast<std::size_t>(checkpoint->config_.num_layers));
  const internal::TensorBinder binder(checkpoint->config_, files.tensors);
  MOESCOPE_RETURN_IF_ERROR(family->bind_blocks(binder, *by_role));
  checkpoint->forward_status_ = checkpoint->config_.forward_status;
  if (checkpoint->forward_status_.ok()) {
    checkpoint->forward_status_ = family->bind_rest(binder, *by_role);
  }
  MOESCOPE_ASSIGN_OR_RETURN(checkpoint->identity_,
                            internal::IdentifyModel(folder, files));
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer =
      LoadTokenizer(folder, checkpoint->config_.vocab_size);
  checkpoint->tokenizer_status_ = tokenizer.status();
  if (tokenizer.ok()) checkpoint->tokenizer_ = *std::move(tokenizer);
  checkpoint->text_digests_ = internal::TextDigests(files);
  checkpoint->by_role_ = std::move(by_role);
  checkpoint->tensors_ = std::move(files.tensors);
  for (const internal::WeightShard& shard : files.shards) {
    checkpoint->weight_bytes_ += shard.mapped->stamp().size_bytes;
    checkpoint->weight_files_.push_back(shard.mapped);
    checkpoint->tensor_owners_.push_back(shard.owner);
  }
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

ModelIdentity Checkpoint::ContentIdentity(
    absl::Span<const std::string> roots) const {
  std::string text = text_digests_;
  for (std::size_t i = 0; i < roots.size(); ++i) {
    absl::StrAppend(&text, "tree ", roots[i], " ",
                    internal::FileName(weight_files_[i]->path()), "\n");
  }
  return {absl::StrCat("content:", Sha256Hex(text)), true};
}

absl::Status Checkpoint::CheckIntact() const {
  for (const auto& file : weight_files_) {
    MOESCOPE_RETURN_IF_ERROR(file->CheckIntact());
  }
  return absl::OkStatus();
}

std::string Checkpoint::dtype() const {
  // Of quantised matrices codes and scales are told by the config; here they
  // would stand for numbers of their own.
  const bool float8 = config_.quantisation == Quantisation::kFloat8Blocks;
  const bool mxfp4 = config_.quantisation == Quantisation::kMxfp4;
  std::map<TensorDtype, std::int64_t> bytes;
  bool has_codes = false;
  for (const auto& [name, tensor] : tensors_) {
    const bool codes = (float8 && tensor->dtype == TensorDtype::kF8E4M3) ||
                       (mxfp4 && tensor->dtype == TensorDtype::kU8);
    has_codes = has_codes || codes;
    if (!codes && !(float8 && absl::EndsWith(name, "_scale_inv"))) {
      bytes[tensor->dtype] += tensor->size_bytes;
    }
  }
  TensorDtype most = TensorDtype::kF32;
  for (const auto& [dtype, size] : bytes) {
    if (size > bytes[most]) most = dtype;
  }
  if (!has_codes) return DtypeName(most);
  return absl::StrCat(
      mxfp4 ? "MXFP4"
            : absl::StrCat("F8_E4M3 blocks ", config_.scale_block_rows, "×",
                           config_.scale_block_cols),
      " + ", DtypeName(most));
}

const TensorEntry* Checkpoint::FindTensor(absl::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

absl::StatusOr<const internal::LayerTensors*> Checkpoint::Layer(
    std::int64_t layer) const {
  MOESCOPE_RETURN_IF_ERROR(CheckIndex("layer", layer, config_.num_layers));
  return &by_role_->layers[static_cast<std::size_t>(layer)];
}

absl::StatusOr<numerics::MatrixView> Checkpoint::Router(
    std::int64_t layer) const {
  MOESCOPE_ASSIGN_OR_RETURN(const internal::LayerTensors* tensors,
                            Layer(layer));
  if (!tensors->router.present()) return NotInLayer(layer, "router");
  return tensors->router.weight;
}

absl::StatusOr<ExpertWeights> Checkpoint::Expert(std::int64_t layer,
                                                 std::int64_t expert) const {
  MOESCOPE_ASSIGN_OR_RETURN(const internal::LayerTensors* tensors,
                            Layer(layer));
  if (!tensors->router.present()) return NotInLayer(layer, "routed experts");
  MOESCOPE_RETURN_IF_ERROR(CheckIndex("expert", expert, config_.num_experts));
  return tensors->experts[static_cast<std::size_t>(expert)];
}

absl::StatusOr<std::optional<ExpertWeights>> Checkpoint::SharedExpert(
    std::int64_t layer) const {
  MOESCOPE_ASSIGN_OR_RETURN(const internal::LayerTensors* tensors,
                            Layer(layer));
  return tensors->shared;
}

absl::StatusOr<ExpertWeights> Checkpoint::DenseBlock(std::int64_t layer) const {
  MOESCOPE_ASSIGN_OR_RETURN(const internal::LayerTensors* tensors,
                            Layer(layer));
  if (!tensors->dense.has_value()) return NotInLayer(layer, "dense block");
  return *tensors->dense;
}

}  // namespace moescope::model
