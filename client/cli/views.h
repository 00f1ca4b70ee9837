#pragma once

#include <string>

#include "moescope/v1/admin.pb.h"
#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/job.pb.h"
#include "moescope/v1/model.pb.h"
#include "moescope/v1/result.pb.h"

namespace moescope::client {

// What a reply looks like on a terminal.

std::string ModelsText(const v1::ListModelsResponse& response);
std::string AnalysesText(const v1::ListAnalysesResponse& response);
std::string AnalysisText(const v1::AnalysisInfo& analysis);
std::string JobsText(const v1::ListJobsResponse& response);
std::string TokensText(const v1::TokenizeResponse& response);
std::string CacheText(const v1::GetCacheStatsResponse& response);
/// "running", "loaded": the last word of an enumeration's value.
std::string JobStateText(v1::JobState state);

/// What loading needs and what there is for it.
std::string EstimateText(const v1::EstimateModelResponse& response);

/// What a job of "verify_model" that succeeded has shown of `model`, which is as
/// it is after the job.
std::string VerdictText(const v1::Job& job, const v1::Model& model);

/// Any other message: a line per field that is set or a bool, members of messages
/// indented, in the order of the contract; repeated members of scalars alone as
/// a table. A job's or model's state is a word, a field that ends in "_bytes" a
/// size.
std::string MessageText(const google::protobuf::Message& message);

/// One JSON document with the field names of the contract.
std::string MessageJson(const google::protobuf::Message& message);

}  // namespace moescope::client
