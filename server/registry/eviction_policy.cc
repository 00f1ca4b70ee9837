#include "moescope/registry/eviction_policy.h"

#include <algorithm>
#include <iterator>
#include <tuple>

namespace moescope {
namespace {

using Models = std::vector<const ResidentModel*>;

Models LeastRecentlyUsedFirst(absl::Span<const ResidentModel> residents) {
  Models models;
  for (const ResidentModel& model : residents) {
    models.push_back(&model);
  }
  std::sort(models.begin(), models.end(),
            [](const ResidentModel* a, const ResidentModel* b) {
              return std::tie(a->last_used, a->name) <
                     std::tie(b->last_used, b->name);
            });
  return models;
}

// The first of `models` that free at least `missing` bytes, less those that
// the others make unnecessary, the most recently used spared first. Empty when
// all of them do not suffice.
Models Choose(const Models& models, std::int64_t missing) {
  Models chosen;
  std::int64_t freed = 0;
  for (const ResidentModel* model : models) {
    if (freed >= missing) {
      break;
    }
    chosen.push_back(model);
    freed += model->bytes;
  }
  if (freed < missing) {
    return {};
  }
  for (auto at = chosen.end(); at != chosen.begin();) {
    --at;
    if (freed - (*at)->bytes >= missing) {
      freed -= (*at)->bytes;
      at = chosen.erase(at);
    }
  }
  return chosen;
}

std::vector<std::string> Names(const Models& models) {
  std::vector<std::string> names;
  for (const ResidentModel* model : models) {
    names.push_back(model->name);
  }
  return names;
}

}  // namespace

EvictionPlan PlanEviction(absl::Span<const ResidentModel> residents,
                          std::int64_t needed_bytes, std::int64_t budget_bytes,
                          absl::Duration minimum_residence, absl::Time now) {
  EvictionPlan plan;
  plan.available_bytes = budget_bytes;
  for (const ResidentModel& model : residents) {
    plan.available_bytes -= model.bytes;
  }
  const std::int64_t missing = needed_bytes - plan.available_bytes;
  if (missing <= 0) {
    plan.fits = true;
    return plan;
  }
  const Models all = LeastRecentlyUsedFirst(residents);
  Models evictable;
  std::copy_if(all.begin(), all.end(), std::back_inserter(evictable),
               [&](const ResidentModel* model) {
                 return model->pins == 0 &&
                        now - model->loaded_at >= minimum_residence;
               });
  const Models evict = Choose(evictable, missing);
  plan.fits = !evict.empty();
  if (plan.fits) {
    plan.evict = Names(evict);
  } else {
    plan.would_have_to_go = Names(Choose(all, missing));
  }
  return plan;
}

}  // namespace moescope
