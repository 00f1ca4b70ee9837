#include "server/analysis/parameters_internal.h"

namespace moescope::analysis::internal {
const char* const kModelMeaning =
    "Name of a Mixture-of-Experts model that the server knows.";
const char* const kInputMeaning =
    "The text: token ids as whole sequences, or text that the model's "
    "tokenizer turns into them. Attention never crosses sequences.";
const char* const kLayersMeaning = "MoE layers to look at; empty: all.";
const char* const kProjectionsMeaning =
    "Among gate_proj, up_proj, down_proj; empty: all.";
const char* const kParticipantsMeaning =
    "Who takes part: \"0\" to \"E-1\" routed experts, \"S\" the shared "
    "experts' block, \"F\" the baseline's block; empty: all routed experts, "
    "with S if include_shared and F if there is a baseline.";
const char* const kIncludeSharedMeaning =
    "Whether the shared experts' block takes part, as S.";
const char* const kBaselineMeaning =
    "Name of a dense model of the same width whose feed-forward block of the "
    "same layer takes part, as F; empty: none.";
const char* const kBlockTokensMeaning =
    "Tokens go through the model in blocks of whole sequences of at most this "
    "many tokens (a longer sequence is a block of its own), 64 to 1048576.";

}  // namespace moescope::analysis::internal
