#pragma once

#include <string>
#include <vector>

#include "src/pipeline/plan_choice.h"

namespace lrq::cli {

/// What a plan is made of, for its page and its JSON.
struct PlanReport {
  std::string model;  ///< file or folder
  pipeline::ModelFigures figures;
  pipeline::BlockWork work;
  pipeline::Machine machine;
  pipeline::RunShape shape;
  pipeline::RunEstimate estimate;
  std::vector<pipeline::Schedule> schedules;
  std::string advice;
};

/// The page that `lrq-dist plan` prints.
[[nodiscard]] std::string plan_page(const PlanReport& report);
/// The same for machines.
[[nodiscard]] std::string plan_json(const PlanReport& report);

}  // namespace lrq::cli
