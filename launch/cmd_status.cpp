#include <cmath>
#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "io/block_state_store.h"
#include "io/file_system.h"
#include "io/run_manifest.h"
#include "launch/commands.h"
#include "src/base/text.h"
#include "src/report/metrics.h"

namespace lrq::cli {
namespace {

std::string number(double value) { return std::isfinite(value) ? concat(value) : "not finite"; }

void print_newest(const report::Metrics& metrics) {
  if (metrics.newest_epoch) {
    const auto& [block, epoch] = *metrics.newest_epoch;
    const report::EpochRecord& record = metrics.epochs.at(block).at(epoch);
    std::printf("newest   block %d, epoch %lld: loss %s, %s tokens/s\n", block,
                static_cast<long long>(epoch), number(record.loss).c_str(),
                number(record.tokens_per_second).c_str());
  }
  if (metrics.newest_frozen) {
    const report::FrozenRecord& frozen = metrics.frozen.at(*metrics.newest_frozen);
    std::printf("frozen   up to block %d: propagated NLC mean %s, median %s\n",
                *metrics.newest_frozen, number(frozen.nlc_mean).c_str(),
                number(frozen.nlc).c_str());
  }
  if (const auto worse = metrics.worse_blocks(); !worse.empty()) {
    std::string names;
    for (const int block : worse) names += concat(' ', block);
    std::printf("worse    than their start, by propagated median NLC: blocks%s\n", names.c_str());
  }
}

void print_status(const std::filesystem::path& run) {
  const auto files = io::make_posix_file_system();
  const io::RunManifest manifest = io::require_manifest(*files, run);
  const int blocks = std::stoi(manifest.about.at("blocks"));
  const io::BlockStateStore states(*files, run);
  int finished = 0;
  for (int block = 0; block < blocks; ++block) {
    finished += states.has_block(BlockIndex{block}) ? 1 : 0;
  }
  std::printf("run      %s\nmodel    %s\nblocks   %d of %d finished\n", run.c_str(),
              manifest.about.at("model_folder").c_str(), finished, blocks);
  if (manifest.finished) {
    std::printf("state    finished\n");
  } else if (manifest.cut) {
    std::printf("state    not finished; a resume starts in wave %d behind step %lld\n",
                manifest.cut->wave, static_cast<long long>(manifest.cut->step));
  } else {
    std::printf("state    not finished; a resume starts at the beginning\n");
  }
  const auto metrics = run / "metrics.jsonl";
  if (files->exists(metrics)) print_newest(report::read_metrics(files->read(metrics), blocks));
}

}  // namespace

void add_status_command(CLI::App& app, Chosen& chosen) {
  auto run = std::make_shared<std::filesystem::path>();
  CLI::App* command = app.add_subcommand("status", "How far a run is, also while it runs");
  command->add_option("--run", *run, "run directory")->required();
  command->callback([run, &chosen] { chosen.local = [run] { print_status(*run); }; });
}

}  // namespace lrq::cli
