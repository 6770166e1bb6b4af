#include <cstdio>
#include <memory>
#include <set>
#include <sstream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "io/block_state_store.h"
#include "io/file_system.h"
#include "io/run_manifest.h"
#include "launch/commands.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

/// The newest lines of a kind in metrics.jsonl (a torn last line is not one), and under "worse" the
/// blocks that freezing found worse than their start.
nlohmann::json newest_lines(const std::string& metrics) {
  nlohmann::json newest = nlohmann::json::object();
  std::set<int> worse;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    const auto parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_discarded() || !parsed.contains("event")) continue;
    newest[parsed["event"].get<std::string>()] = parsed;
    if (parsed["event"] != "frozen") continue;
    const int block = parsed.value("block", 0);
    if (parsed.value("worse_than_start", false)) {
      worse.insert(block);
    } else {
      worse.erase(block);  // frozen again after a resume
    }
  }
  newest["worse"] = worse;
  return newest;
}

std::string number(const nlohmann::json& value) {
  return value.is_number() ? concat(value.get<double>()) : "not finite";
}

void print_status(const std::filesystem::path& run) {
  const auto files = io::make_posix_file_system();
  const auto manifest = io::load_manifest(*files, run);
  if (!manifest) {
    throw DataError({.what = "the folder holds no run.json",
                     .where = run.string(),
                     .fix = "name the run directory that lrq-dist calibrate wrote"});
  }
  const int blocks = std::stoi(manifest->about.at("blocks"));
  const io::BlockStateStore states(*files, run);
  int finished = 0;
  for (int block = 0; block < blocks; ++block) {
    finished += states.has_block(BlockIndex{block}) ? 1 : 0;
  }
  std::printf("run      %s\nmodel    %s\nblocks   %d of %d finished\n", run.c_str(),
              manifest->about.at("model_folder").c_str(), finished, blocks);
  if (manifest->finished) {
    std::printf("state    finished\n");
  } else if (manifest->cut) {
    std::printf("state    not finished; a resume starts in wave %d behind step %lld\n",
                manifest->cut->wave, static_cast<long long>(manifest->cut->step));
  } else {
    std::printf("state    not finished; a resume starts at the beginning\n");
  }
  const auto metrics = run / "metrics.jsonl";
  const auto newest = newest_lines(files->exists(metrics) ? files->read(metrics) : std::string());
  if (newest.contains("epoch")) {
    const auto& epoch = newest["epoch"];
    std::printf("newest   block %d, epoch %d: loss %s, %s tokens/s\n", epoch.value("block", 0),
                epoch.value("epoch", 0), number(epoch["loss"]).c_str(),
                number(epoch["tokens_per_second"]).c_str());
  }
  if (newest.contains("frozen")) {
    const auto& frozen = newest["frozen"];
    std::printf("frozen   up to block %d: propagated NLC mean %s, median %s\n",
                frozen.value("block", 0), number(frozen["nlc"]).c_str(),
                number(frozen["nlc_median"]).c_str());
  }
  if (!newest["worse"].empty()) {
    std::string names;
    for (const auto& block : newest["worse"]) names += concat(' ', block.get<int>());
    std::printf("worse    than their start, by propagated median NLC: blocks%s\n", names.c_str());
  }
}

}  // namespace

void add_status_command(CLI::App& app, Chosen& chosen) {
  auto run = std::make_shared<std::filesystem::path>();
  CLI::App* command = app.add_subcommand("status", "How far a run is, also while it runs");
  command->add_option("--run", *run, "run directory")->required();
  command->callback([run, &chosen] { chosen.local = [run] { print_status(*run); }; });
}

}  // namespace lrq::cli
