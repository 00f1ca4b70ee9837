#include <cstdint>
#include <map>
#include <string>

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"

#include "moescope/codec/messages.h"
#include "server/rpc/messages_internal.h"
#include "server/rpc/wire_limits_internal.h"

namespace moescope::internal {
namespace {

void SetDuration(absl::Duration duration, google::protobuf::Duration& message) {
  message.set_seconds(absl::ToInt64Seconds(duration));
  message.set_nanos(static_cast<std::int32_t>(
      absl::ToInt64Nanoseconds(duration % absl::Seconds(1))));
}

void SetVersions(const ServerView& view, v1::GetServerInfoResponse& out) {
  std::map<std::string, std::string> versions = view.versions;
  versions["grpc"] = grpc::Version();
  versions["protobuf"] =
      google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION);
  for (const auto& [name, version] : versions) {
    v1::LibraryVersion& entry = *out.add_versions();
    entry.set_name(name);
    entry.set_version(version);
  }
  out.set_version(versions["moescope"]);
}

std::int64_t Limit(const ServerView& view, const char* name) {
  const auto found = view.limits.find(name);
  return found == view.limits.end() ? 0 : found->second;
}

void SetLimits(const ServerView& view, const RpcServerOptions& options,
               v1::ServerLimits& limits) {
  limits.set_max_tokens(Limit(view, "max_tokens"));
  limits.set_max_receive_bytes(kMaxReceiveBytes);
  limits.set_max_slice_bytes(codec::kMaxSliceBytes);
  limits.set_unary_reply_bytes(codec::kMaxUnaryReplyBytes);
  limits.set_max_queued_jobs(Limit(view, "max_queued_jobs"));
  limits.set_max_queued_seconds(
      static_cast<double>(Limit(view, "max_queued_seconds")));
  limits.set_max_attempts(
      static_cast<std::int32_t>(Limit(view, "max_attempts")));
  limits.set_model_memory_bytes(Limit(view, "memory_budget_bytes"));
  limits.set_default_page_size(kDefaultPageSize);
  limits.set_max_page_size(kMaxPageSize);
  limits.set_max_request_id_length(kMaxRequestIdLength);
  limits.set_max_streams(options.max_streams);
  SetDuration(absl::Seconds(Limit(view, "lost_caller_grace_seconds")),
              *limits.mutable_lost_caller_grace());
  limits.set_result_disk_bytes(Limit(view, "cache_disk_bytes"));
  limits.set_result_memory_bytes(Limit(view, "cache_memory_bytes"));
}

void SetNumerics(const ServerView& view, v1::Numerics& numerics) {
  numerics.set_numerics_class(view.numerics_class);
  numerics.set_blas(view.blas_library);
  numerics.set_blas_core(view.blas_core);
  numerics.set_blas_core_fits(view.blas_core_fits);
  if (!view.blas_core_fits && !view.fitting_blas_core.empty()) {
    numerics.set_blas_advice(
        absl::StrCat("start the server with OPENBLAS_CORETYPE=",
                     view.fitting_blas_core));
  }
  numerics.set_gemm_gflops(view.gemm_gflops);
  numerics.set_kernel_instructions(view.instruction_set);
  numerics.set_threads(view.threads);
}

void AddTier(const std::string& name, std::int64_t entries, std::int64_t size,
             std::int64_t limit, std::int64_t hits, std::int64_t misses,
             std::int64_t evictions, v1::GetCacheStatsResponse& out) {
  v1::CacheTier& tier = *out.add_tiers();
  tier.set_name(name);
  tier.set_entries(entries);
  tier.set_size_bytes(size);
  tier.set_limit_bytes(limit);
  tier.set_hits(hits);
  tier.set_misses(misses);
  tier.set_evictions(evictions);
}

}  // namespace

v1::GetServerInfoResponse ToMessage(const ServerView& view,
                                    const RpcServerOptions& options,
                                    bool draining, absl::Time now) {
  v1::GetServerInfoResponse out;
  SetVersions(view, out);
  for (const DeviceView& device : view.devices) {
    v1::Device& entry = *out.add_devices();
    entry.set_name(device.name);
    entry.set_description(device.description);
    entry.set_total_bytes(device.total_bytes);
    entry.set_free_bytes(device.free_bytes);
    entry.set_budget_bytes(device.budget_bytes);
    entry.set_reserved_bytes(device.reserved_bytes);
  }
  SetLimits(view, options, *out.mutable_limits());
  SetNumerics(view, *out.mutable_numerics());
  for (const std::string& feature : view.features) {
    out.add_features(feature);
  }
  *out.mutable_start_time() = codec::ToTimestamp(view.start_time);
  SetDuration(now - view.start_time, *out.mutable_uptime());
  const std::size_t slash = options.model_root.find_last_of('/');
  out.set_model_root(slash == std::string::npos
                         ? options.model_root
                         : options.model_root.substr(slash + 1));
  out.set_replica(options.replica);
  out.set_draining(draining);
  return out;
}

v1::GetCacheStatsResponse ToMessage(const CacheView& view) {
  v1::GetCacheStatsResponse out;
  AddTier("memory", view.memory_entries, view.memory_bytes,
          view.memory_limit_bytes, view.memory_hits,
          view.disk_hits + view.misses, view.memory_evictions, out);
  AddTier("disk", view.disk_entries, view.disk_bytes, view.disk_limit_bytes,
          view.disk_hits, view.misses, view.disk_evictions, out);
  out.set_hits(view.memory_hits + view.disk_hits);
  out.set_misses(view.misses);
  out.set_joins(view.joins);
  out.set_corrupt(view.corrupt);
  out.set_saved_seconds(absl::ToDoubleSeconds(view.saved));
  return out;
}

}  // namespace moescope::internal
