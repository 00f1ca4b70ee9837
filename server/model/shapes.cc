#include "moescope/model/shapes.h"

namespace moescope::model {

absl::string_view ProjectionName(Projection projection) {
  switch (projection) {
    case Projection::kGate:
      return "gate_proj";
    case Projection::kUp:
      return "up_proj";
    case Projection::kDown:
      return "down_proj";
  }
  return "";
}

}  // namespace moescope::model
