#include <nlohmann/json.hpp>

#include "src/report/page.h"

namespace lrq::report {
namespace {

using Json = nlohmann::ordered_json;

/// null for a number that is not finite, as the library writes them.
Json block_json(const RunReport& report, int block) {
  Json json{{"block", block}, {"wave", block / report.waves.front().size()}};
  const auto epochs = report.metrics.epochs.find(block);
  json["epochs"] = Json::array();
  if (epochs != report.metrics.epochs.end()) {
    for (const auto& [number, epoch] : epochs->second) {
      json["epochs"].push_back({{"epoch", number},
                                {"loss", epoch.loss},
                                {"mse", epoch.mse},
                                {"nlc", epoch.nlc},
                                {"masked", epoch.masked},
                                {"seconds", epoch.seconds},
                                {"steps", epoch.steps}});
    }
  }
  const auto frozen = report.metrics.frozen.find(block);
  if (frozen != report.metrics.frozen.end()) {
    json["propagated"] = {{"nlc_median", frozen->second.nlc},
                          {"start_nlc_median", frozen->second.start_nlc},
                          {"mse_median", frozen->second.mse},
                          {"start_mse_median", frozen->second.start_mse},
                          {"worse_than_start", frozen->second.worse}};
  }
  return json;
}

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json wave_json(const WaveReplay& wave) {
  Json json{{"wave", wave.wave},
            {"blocks", {wave.blocks.first, wave.blocks.last - 1}},
            {"ranks", wave.ranks},
            {"stages", wave.stages.size()},
            {"replicas", wave.replicas},
            {"first_step", wave.first_step},
            {"steps", wave.steps},
            {"measured_seconds", wave.measured ? Json(wave.measured->seconds) : Json()},
            {"simulated_seconds", wave.played.seconds}};
  for (int rank = 0; rank < wave.ranks; ++rank) {
    json["waiting"].push_back({{"rank", rank},
                               {"measured", optional_json(wave.measured_waiting(rank))},
                               {"simulated", wave.simulated_waiting(rank)}});
  }
  return json;
}

}  // namespace

std::string json_of(const RunReport& report) {
  const auto& recipe = report.recipe;
  Json json{{"run", report.run},
            {"model", report.model},
            {"version", report.version},
            {"recipe", recipe.name},
            {"recipe_toml", report.recipe_toml},
            {"bits", {{"weights", recipe.weights.bits}, {"activations", recipe.activations.bits}}},
            {"samples", report.samples},
            {"ranks", report.ranks},
            {"finished", report.finished},
            {"state", report.state()},
            {"blocks_finished", report.finished_blocks},
            {"worse_than_start", report.metrics.worse_blocks()},
            {"lines_left_out", report.metrics.left_out}};
  json["blocks"] = Json::array();
  for (int block = 0; block < report.blocks; ++block) {
    json["blocks"].push_back(block_json(report, block));
  }
  json["waves"] = Json::array();
  for (const WaveReplay& wave : report.replays) json["waves"].push_back(wave_json(wave));
  json["utilisation"] = Json::array();
  int rank = 0;
  for (const Utilisation& mine : utilisations(report)) {
    if (report.replays.empty()) break;
    json["utilisation"].push_back({{"rank", rank++},
                                   {"measured", optional_json(mine.measured)},
                                   {"simulated", mine.simulated}});
  }
  json["calls"] = Json::array();
  for (const CallRecord& call : report.metrics.calls) {
    json["calls"].push_back({{"ranks", call.ranks},
                             {"stopped", call.stopped},
                             {"seconds", call.seconds},
                             {"learning_seconds", call.learning_seconds},
                             {"peak_memory_bytes", call.peak_memory_bytes},
                             {"waited_seconds", call.waited_seconds}});
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lrq::report
