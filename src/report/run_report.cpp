#include "src/report/run_report.h"

#include <charconv>
#include <map>
#include <string_view>
#include <tuple>

#include "io/run_manifest.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/recipe/recipe_toml.h"

namespace lrq::report {
namespace {

using Texts = std::map<std::string, std::string>;

[[noreturn]] void refuse(const std::filesystem::path& run, const std::string& what) {
  throw DataError({.what = what,
                   .where = (run / "run.json").string(),
                   .fix = "name the run directory that this version's lrq-dist calibrate wrote"});
}

const std::string& text_of(const Texts& texts, const char* key, const std::filesystem::path& run) {
  const auto found = texts.find(key);
  if (found == texts.end()) refuse(run, concat("run.json does not tell \"", key, "\""));
  return found->second;
}

/// A number of at least 1.
std::int64_t count_of(const Texts& texts, const char* key, const std::filesystem::path& run) {
  const std::string& text = text_of(texts, key, run);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > 1 << 30) {
    refuse(run, concat("run.json tells \"", key, "\" as \"", text, "\", not as a number above 0"));
  }
  return value;
}

recipe::Recipe recipe_of(const std::string& toml, const std::filesystem::path& run) {
  constexpr std::string_view kName = "# recipe ";  // as to_toml begins
  try {
    recipe::Recipe recipe = recipe::parse_recipe(toml, (run / "run.json").string(),
                                                 [](const std::string&) { return std::nullopt; });
    recipe.name.clear();  // that of the file
    if (toml.starts_with(kName)) {
      recipe.name = toml.substr(kName.size(), toml.find('\n') - kName.size());
    }
    return recipe;
  } catch (const UsageError& error) {  // of another version
    refuse(run, concat("the recipe in run.json is not one of this version: ", error.text().what));
  }
}

std::vector<WaveReplay> replays_of(const RunReport& report) {
  std::vector<WaveReplay> replays;
  if (!pipeline::learns(report.recipe)) return replays;
  for (std::size_t wave = 0; wave < report.waves.size(); ++wave) {
    const WaveSetting setting{.recipe = report.recipe,
                              .blocks = report.waves[wave],
                              .micro_batches = report.samples / report.recipe.train.batch_size,
                              .ranks = report.ranks};
    auto replay = replay_wave(setting, static_cast<int>(wave), report.metrics);
    if (replay) replays.push_back(std::move(*replay));
  }
  return replays;
}

}  // namespace

std::string RunReport::state() const {
  if (finished) return "finished";
  const std::string done =
      concat("not finished: ", finished_blocks, " of ", blocks, " blocks are; a resume starts ");
  if (!cut) return done + "at the beginning";
  return done + concat("in wave ", cut->wave, " behind step ", cut->step);
}

std::string RunReport::bits() const {
  const auto& [weights, activations] = std::tie(recipe.weights, recipe.activations);
  std::string text = concat('W', weights.bits);
  if (weights.bits < 16 && weights.per == recipe::Per::kGroup) {
    text += concat(" in groups of ", weights.group_size);
  }
  text += concat(" A", activations.bits);
  if (activations.kv_bits > 0 && activations.kv_bits != activations.bits) {
    text += concat(", keys and values ", activations.kv_bits, " bits");
  }
  return text;
}

std::vector<int> RunReport::nonfinite_blocks() const {
  std::vector<int> found;
  for (const auto& [block, epochs] : metrics.epochs) {
    std::int64_t masked = 0;
    for (const auto& [number, epoch] : epochs) masked += epoch.masked;
    if (masked > 0) found.push_back(block);
  }
  return found;
}

std::vector<Utilisation> utilisations(const RunReport& report) {
  std::vector<Utilisation> all(static_cast<std::size_t>(report.ranks));
  for (int rank = 0; rank < report.ranks; ++rank) {
    double simulated = 0.0;
    double busy = 0.0;
    double measured = 0.0;
    double measured_busy = 0.0;
    for (const WaveReplay& wave : report.replays) {
      if (wave.ranks != report.ranks) continue;
      simulated += wave.played.seconds;
      busy += wave.played.busy[static_cast<std::size_t>(rank)];
      if (const auto waiting = wave.measured_waiting(rank)) {
        measured += wave.measured->seconds;
        measured_busy += (1.0 - *waiting) * wave.measured->seconds;
      } else if (wave.measured && rank >= wave.replicas * std::ssize(wave.stages)) {
        measured += wave.measured->seconds;  // no part in this wave
      }
    }
    auto& mine = all[static_cast<std::size_t>(rank)];
    if (simulated > 0.0) mine.simulated = busy / simulated;
    if (measured > 0.0) mine.measured = measured_busy / measured;
  }
  return all;
}

RunReport load_report(io::FileSystem& files, const std::filesystem::path& run) {
  const io::RunManifest manifest = io::require_manifest(files, run);
  const Texts& about = manifest.about;
  RunReport report{.run = run.string(),
                   .model = text_of(about, "model_folder", run),
                   .version = text_of(about, "version", run),
                   .dtype = text_of(manifest.identity, "dtype", run),
                   .transport = text_of(about, "transport", run),
                   .recipe_toml = text_of(about, "recipe_toml", run),
                   .recipe = {},
                   .blocks = static_cast<int>(count_of(about, "blocks", run)),
                   .samples = count_of(about, "samples", run),
                   .ranks = static_cast<int>(count_of(about, "ranks", run)),
                   .finished = manifest.finished,
                   .cut = manifest.cut,
                   .waves = {},
                   .metrics = {},
                   .replays = {}};
  report.recipe = recipe_of(report.recipe_toml, run);
  const auto& train = report.recipe.train;
  if (train.wave < 1 || train.batch_size < 1 || train.batch_size > report.samples) {
    refuse(run, concat("run.json tells waves of ", train.wave, " and micro-batches of ",
                       train.batch_size, " of ", report.samples, " samples"));
  }
  report.waves = pipeline::waves_of(report.blocks, train.wave);
  const io::BlockStateStore states(files, run);
  for (int block = 0; block < report.blocks; ++block) {
    report.finished_blocks += states.has_block(BlockIndex{block}) ? 1 : 0;
  }
  const auto metrics = run / "metrics.jsonl";
  if (files.exists(metrics)) report.metrics = read_metrics(files.read(metrics), report.blocks);
  report.replays = replays_of(report);
  return report;
}

}  // namespace lrq::report
