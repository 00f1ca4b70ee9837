#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/rpc/analysis_requests_internal.h"
#include "server/rpc/validation_internal.h"

namespace moescope::internal {
namespace {

absl::StatusOr<v1::AnalysisInfo> Describe(Call& call,
                                          const spec::AnalysisInfo& info) {
  v1::AnalysisInfo message = codec::ToMessage(info);
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<FitView> fits,
                            call.service().ListFits(info.name));
  for (const FitView& fit : fits) {
    v1::ModelFit& entry = *message.add_models();
    entry.set_model(fit.model);
    entry.set_fits(fit.status.ok());
    entry.set_reason(std::string(fit.status.message()));
  }
  return message;
}

bool Fits(const v1::AnalysisInfo& info, const std::string& model) {
  for (const v1::ModelFit& fit : info.models()) {
    if (fit.model() == model) {
      return fit.fits();
    }
  }
  return false;
}

}  // namespace

bool TooLargeForReply(const google::protobuf::Message& reply) {
  return static_cast<std::int64_t>(reply.ByteSizeLong()) >
         codec::kMaxUnaryReplyBytes;
}

absl::StatusOr<v1::ListAnalysesResponse> ListAnalyses(
    Call& call, const v1::ListAnalysesRequest& request) {
  if (!request.model().empty()) {
    MOESCOPE_RETURN_IF_ERROR(call.service().GetModel(request.model()).status());
  }
  std::map<std::string, v1::AnalysisInfo> sorted;
  std::vector<std::string> names;
  for (const spec::AnalysisInfo& info : call.service().ListAnalyses()) {
    MOESCOPE_ASSIGN_OR_RETURN(v1::AnalysisInfo message, Describe(call, info));
    if (request.model().empty() || Fits(message, request.model())) {
      sorted.emplace(message.name(), std::move(message));
    }
  }
  for (const auto& [name, message] : sorted) {
    names.push_back(name);
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const NamePage page,
      PageOfNames(names, request.page_size(), request.page_token()));
  v1::ListAnalysesResponse response;
  for (std::size_t i = page.begin; i < page.end; ++i) {
    *response.add_analyses() = sorted[names[i]];
  }
  response.set_next_page_token(page.next_page_token);
  return response;
}

}  // namespace moescope::internal
