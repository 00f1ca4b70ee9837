#include <string>

#include "moescope/codec/messages.h"
#include "server/rpc/messages_internal.h"

namespace moescope::internal {
namespace {

v1::ModelState StateOf(const ModelView& view) {
  if (view.state == "LOADING") {
    return v1::MODEL_STATE_LOADING;
  }
  if (view.state == "READY") {
    return v1::MODEL_STATE_LOADED;
  }
  if (view.state == "UNLOADING") {
    return v1::MODEL_STATE_UNLOADING;
  }
  // A load that failed may be tried again; a folder that can't be read not.
  return view.checkpoint_status.ok() ? v1::MODEL_STATE_AVAILABLE
                                     : v1::MODEL_STATE_UNUSABLE;
}

}  // namespace

v1::Model ToMessage(const ModelView& view) {
  v1::Model model;
  model.set_name(view.name);
  model.set_state(StateOf(view));
  if (!view.checkpoint_status.ok()) {
    *model.mutable_error() = ToJobError(view.checkpoint_status);
    return model;
  }
  if (!view.load_error.ok()) {
    *model.mutable_error() = ToJobError(view.load_error);
  }
  model.set_family(view.family);
  model.set_layers(view.num_layers);
  model.mutable_moe_layers()->Assign(view.moe_layers.begin(),
                                     view.moe_layers.end());
  model.set_experts(view.num_experts);
  model.set_experts_per_token(view.experts_per_token);
  model.set_shared_experts(view.num_shared_experts);
  model.set_width(view.width);
  model.set_expert_width(view.expert_width);
  model.set_shared_width(view.shared_width);
  model.set_dense_width(view.dense_width);
  model.set_vocab_size(view.vocab_size);
  model.set_max_positions(view.max_positions);
  model.set_routing(view.routing_rule);
  model.set_dtype(view.dtype);
  model.set_size_bytes(view.weight_bytes);
  model.set_forward_pass(view.forward_status.ok());
  model.set_forward_error(std::string(view.forward_status.message()));
  model.set_tokenizer(view.tokenizer);
  if (!view.tokenizer_status.ok()) {
    model.set_tokenizer_error(std::string(view.tokenizer_status.message()));
  }
  model.set_identity(view.identity);
  model.set_weight_files(view.num_weight_files);
  if (view.hash_time.has_value()) {
    *model.mutable_hash_time() = codec::ToTimestamp(*view.hash_time);
  }
  if (model.state() == v1::MODEL_STATE_LOADED) {
    model.set_device(view.device);
  }
  model.set_resident_bytes(view.resident_bytes);
  model.set_users(view.pins);
  return model;
}

}  // namespace moescope::internal
