#include "src/pipeline/calibration.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include <ATen/ATen.h>

#include "dist/collectives.h"
#include "io/activation_store.h"
#include "io/token_file.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/process.h"
#include "src/base/text.h"
#include "src/pipeline/block_method.h"
#include "src/pipeline/freezing.h"
#include "src/pipeline/full_precision_chain.h"
#include "src/pipeline/idle_ranks.h"
#include "src/pipeline/resume.h"
#include "src/pipeline/run_context.h"
#include "src/pipeline/run_log.h"
#include "src/pipeline/run_setup.h"
#include "src/pipeline/site_map_pass.h"
#include "src/pipeline/wave_layout.h"
#include "src/pipeline/wave_learning.h"

namespace lrq::pipeline {
namespace {

std::string text_of(const ResumePoint& point) {
  return concat(point.redo_chain, ' ', point.redo_maps, ' ', point.freeze_from, ' ',
                point.learn_wave, ' ', point.first_step, ' ', point.nothing_left);
}

ResumePoint resume_point_from(const std::string& text) {
  ResumePoint point;
  std::istringstream in(text);
  in >> point.redo_chain >> point.redo_maps >> point.freeze_from >> point.learn_wave >>
      point.first_step >> point.nothing_left;
  expect(!in.fail(), "rank 0 tells where to go on");
  return point;
}

/// The whole job on one rank, in the order of its phases.
class Calibration {
 public:
  Calibration(dist::Transport& transport, io::FileSystem& files, const ModelSource& model,
              const CalibrationRequest& request)
      : transport_(transport),
        files_(files),
        model_(model),
        request_(request),
        store_dtype_(store_dtype(request.recipe, request.compute)),
        waves_(waves_of(model.blocks(), request.recipe.train.wave)),
        activations_(files, request.run,
                     {.tokens = request.tokens,
                      .hidden = model.config().hidden_size,
                      .dtype = store_dtype_}),
        states_(files, request.run),
        log_(files, request.run,
             transport.rank().value == 0 ? RunLog::Speaker::kYes : RunLog::Speaker::kNo),
        context_{.transport = transport,
                 .files = files,
                 .model = model,
                 .recipe = request.recipe,
                 .activations = activations_,
                 .states = states_,
                 .log = log_,
                 .run = request.run,
                 .samples = request.samples,
                 .tokens = request.tokens,
                 .seed = request.seed,
                 .compute = request.compute,
                 .store = store_dtype_,
                 .targets = request.targets,
                 .kept = request.targets == Targets::kMemory ? &kept_ : nullptr,
                 .resident_blocks = request.resident_blocks} {}

  CalibrationResult run() {
    const Stopwatch watch;
    CalibrationResult result;
    const ResumePoint point = set_up();
    if (!point.nothing_left) result.stopped = run_phases(point, result);
    if (!result.stopped) log_.finish();
    result.seconds = watch.seconds();
    gather_usage(result);
    if (!point.nothing_left) {
      log_.ended({.stopped = result.stopped,
                  .seconds = result.seconds,
                  .learning_seconds = result.learning_seconds,
                  .peak_memory_bytes = result.peak_memory_bytes,
                  .waited_seconds = result.waited_seconds});
    }
    return result;
  }

 private:
  /// True if it was stopped on the way.
  bool run_phases(const ResumePoint& point, CalibrationResult& result) {
    if (point.redo_chain) {
      run_full_precision_chain(context_, tokens_);
      if (first_rank()) activations_.write_master(request_.samples);
      if (stops_here()) return true;
    }
    if (point.redo_maps) {
      build_maps_from_mean(context_);
      if (stops_here()) return true;
    }
    const Stopwatch learning;
    const bool stopped = run_waves(point, result);
    result.learning_seconds = learning.seconds();
    return stopped;
  }

  /// What rank 0 has been asked, on every rank.
  bool stops_here() {
    const std::string stop = first_rank() && request_.stop_asked() ? "stop" : "go on";
    return dist::broadcast_text(transport_, stop, Rank{0}, "stop or go on") == "stop";
  }

  [[nodiscard]] bool first_rank() const { return transport_.rank().value == 0; }
  [[nodiscard]] std::int64_t steps_per_block() const {
    return learns(request_.recipe) ? request_.recipe.train.epochs * context_.micro_batches() : 0;
  }

  /// Rank 0 looks at the run directory, everybody learns where to begin.
  ResumePoint set_up() {
    check_machines();
    if (!first_rank()) {
      wait_as_idle_rank(transport_);
    } else {
      others_.emplace(transport_, 1);  // reading a large run takes longer than a wait may
      lock_.emplace(request_.run);
      model_.check();
      point_ = open_run();
      warn_of_idle_ranks();
      others_->release();
    }
    return resume_point_from(
        dist::broadcast_text(transport_, text_of(point_), Rank{0}, "where to begin"));
  }

  /// Bits depend on the instruction set, so all ranks must have the same.
  void check_machines() {
    std::string mine;
    for (const auto& [key, value] : request_.machine) mine += concat(key, " = ", value, "; ");
    const auto all = dist::gather_text(transport_, mine, Rank{0}, "machines");
    for (std::size_t rank = 1; rank < all.size(); ++rank) {
      if (all[rank] == all[0] || request_.other_machine) continue;
      throw UsageError({.what = concat("rank ", rank, " runs on another kind of machine: ",
                                       all[rank], "and rank 0: ", all[0]),
                        .where = "the hosts of this run",
                        .fix = "use equal nodes; if the bits need not be equal, --other-machine"});
    }
  }

  ResumePoint open_run() {
    const auto found = io::load_manifest(files_, request_.run);
    if (found && !request_.resume) {
      throw UsageError({.what = "the run directory holds a run already",
                        .where = (request_.run / "run.json").string(),
                        .fix = "add --resume to go on with it, or name another with --run"});
    }
    if (!found) refuse_leftovers(files_, request_.run);
    tokens_ = calibration_tokens(request_, model_);
    manifest_ = manifest_of(request_, model_, tokens_, transport_.size(), transport_.name());
    if (!found) {
      io::write_token_file(files_, request_.run / "tokens.h5", tokens_);
      io::save_manifest(files_, request_.run, manifest_);
      return {.redo_chain = true, .redo_maps = maps_from_mean(request_.recipe)};
    }
    check_same_run(*found, manifest_, request_);
    record_other_machine(*found, manifest_);
    manifest_.cut = found->cut;
    manifest_.finished = found->finished;
    const ResumePoint point = find_resume_point(facts());
    log_event(LogLevel::kInfo, "resume",
              concat("wave=", point.learn_wave, " step=", point.first_step,
                     " chain=", point.redo_chain ? "again" : "whole",
                     point.nothing_left ? " finished=yes" : ""));
    if (point.nothing_left) {
      activations_.write_master(request_.samples);  // the last thing an unbroken run does
    } else {
      manifest_.finished = false;
      io::save_manifest(files_, request_.run, manifest_);
    }
    return point;
  }

  /// Each answer reads files; between two of them the other ranks are told that this one lives.
  [[nodiscard]] RunFacts facts() {
    const auto alive = [this] { others_->beat(); };
    return {.waves = static_cast<int>(waves_.size()),
            .finished = manifest_.finished,
            .cut = manifest_.cut,
            .chain_complete =
                [this, alive](int wave, bool maps) {
                  return full_precision_chain_complete(context_, needed_of_chain(wave, maps),
                                                       alive);
                },
            .maps_complete =
                [this, alive] {
                  alive();
                  return !maps_from_mean(request_.recipe) || every_block_has_maps();
                },
            .blocks_complete =
                [this, alive](int wave) {
                  alive();
                  return all_blocks(wave, [this](BlockIndex b) { return states_.has_block(b); });
                },
            .inputs_complete =
                [this, alive](int wave) {
                  alive();
                  return inputs_complete(range(wave).first);
                },
            .snapshot_complete =
                [this, alive](const io::SnapshotKey& key) {
                  alive();
                  return all_blocks(key.wave,
                                    [&](BlockIndex b) { return states_.has_snapshot(key, b); });
                }};
  }

  /// What the waves from `wave` on read of the full-precision chain, the mean of whose first
  /// boundary maps begin with.
  [[nodiscard]] BlockRange needed_of_chain(int wave, bool maps) const {
    // Where nothing is removed, a resumed run leaves what an unbroken one leaves.
    if (!removes_targets()) return {0, model_.blocks() + 1};
    const int first = maps ? 0 : range(wave).first;
    const bool begins =
        maps || first == 0 || request_.recipe.train.schedule == recipe::Schedule::kIndependent;
    // Behind the first boundary, what is made again is part of a wave's inputs.
    if (request_.targets == Targets::kRecompute) return {0, first == 0 ? 1 : 0};
    return {begins ? first : first + 1, model_.blocks() + 1};
  }

  [[nodiscard]] bool removes_targets() const {
    return request_.targets == Targets::kRecompute || request_.disk_quota > 0;
  }

  [[nodiscard]] bool inputs_complete(int first) const {
    const io::Boundary original{io::Chain::kFullPrecision, BoundaryIndex{first}};
    return activations_.complete(wave_input(first), request_.samples) &&
           (request_.targets != Targets::kRecompute ||
            activations_.complete(original, request_.samples));
  }

  [[nodiscard]] BlockRange range(int wave) const {
    return waves_.at(static_cast<std::size_t>(wave));
  }

  template <typename Test>
  [[nodiscard]] bool all_blocks(int wave, const Test& test) const {
    for (int block = range(wave).first; block < range(wave).last; ++block) {
      if (!test(BlockIndex{block})) return false;
    }
    return true;
  }

  [[nodiscard]] bool every_block_has_maps() const {
    for (int block = 0; block < model_.blocks(); ++block) {
      if (!states_.has_maps(BlockIndex{block})) return false;
    }
    return true;
  }

  void warn_of_idle_ranks() const {
    const int busy =
        wave_layout(request_.recipe, transport_.size(), waves_.front().size(), request_.replicas)
            .ranks();
    if (steps_per_block() == 0 || transport_.size() <= busy) return;
    log_event(LogLevel::kWarning, "idle_ranks",
              concat("learning=", busy, " waiting=", transport_.size() - busy, " hint=\"--wave ",
                     transport_.size(), " would occupy all ranks\""));
  }

  /// True if it was stopped on the way.
  bool run_waves(const ResumePoint& point, CalibrationResult& result) {
    const int waves = static_cast<int>(waves_.size());
    const std::int64_t steps = steps_per_block();
    std::int64_t to_do = 0;
    for (int wave = point.learn_wave; wave < waves; ++wave) {
      to_do += range(wave).size() * (steps - (wave == point.learn_wave ? point.first_step : 0));
    }
    log_.start(to_do, request_.recipe.train.batch_size * request_.tokens);
    for (int wave = point.freeze_from; wave < waves; ++wave) {
      if (wave >= point.learn_wave) {
        const std::int64_t first_step = wave == point.learn_wave ? point.first_step : 0;
        const std::int64_t reached = learn_wave(
            context_,
            {.wave = wave,
             .blocks = range(wave),
             .first_step = first_step,
             .steps = steps,
             .cut_every = request_.cut_every > 0 ? request_.cut_every : context_.micro_batches(),
             .replicas = request_.replicas,
             .name_cut = [this](const io::SnapshotKey& key) { name_cut(key); },
             .stop_asked = request_.stop_asked});
        result.block_steps += range(wave).size() * (reached - first_step);
        if (stops_here()) return true;
      }
      freeze_wave(context_, wave, range(wave), wave + 1 < waves);
      if (first_rank()) leave_wave(wave, point);
      if (wave + 1 < waves && stops_here()) return true;
    }
    return false;
  }

  /// Every rank's snapshot is durable: from now on it is the one a resume uses, and the one before
  /// can go.  Newer ones may be in the making already.
  void name_cut(const io::SnapshotKey& key) {
    const auto before = std::exchange(manifest_.cut, key);
    io::save_manifest(files_, request_.run, manifest_);
    if (before && before->step > 0 && *before != key) states_.remove_snapshot(*before);
  }

  /// The next wave's inputs are sealed: what only this wave needed can go.  A wave that was only
  /// frozen again, on the way to the one that a cut is in, leaves the cut as it is.
  void leave_wave(int wave, const ResumePoint& point) {
    const int next = wave + 1;
    if (next > point.learn_wave || point.first_step == 0) {
      manifest_.finished = next == static_cast<int>(waves_.size());
      manifest_.cut = io::SnapshotKey{next, 0};
      if (manifest_.finished) manifest_.cut.reset();
      io::save_manifest(files_, request_.run, manifest_);
    }
    states_.remove_snapshots_through(wave);
    // Also those of earlier waves: a killed run may have left them.
    for (int done = 1; done <= wave; ++done) activations_.remove(wave_input(range(done).first));
    if (removes_targets()) remove_targets_before(range(wave).last);
    activations_.write_master(request_.samples);
  }

  /// Those that waves behind block `end` - 1 do not read; all of them behind the last block.
  void remove_targets_before(int end) {
    const bool finished = end == model_.blocks();
    for (int boundary = 0; boundary < (finished ? end + 1 : end); ++boundary) {
      activations_.remove({io::Chain::kFullPrecision, BoundaryIndex{boundary}});
    }
  }

  void gather_usage(CalibrationResult& result) {
    const at::Tensor mine = at::tensor(
        {static_cast<double>(peak_memory_bytes()), static_cast<double>(request_.peak_gpu_memory()),
         std::chrono::duration<double>(transport_.waited()).count()},
        at::device(at::kCPU).dtype(at::kDouble));
    for (const at::Tensor& usage : dist::gather(transport_, mine, Rank{0}, "usage")) {
      result.peak_memory_bytes.push_back(static_cast<std::uint64_t>(usage[0].item<double>()));
      if (usage[1].item<double>() > 0.0) {
        result.peak_gpu_memory_bytes.push_back(static_cast<std::uint64_t>(usage[1].item<double>()));
      }
      result.waited_seconds.push_back(usage[2].item<double>());
    }
  }

  dist::Transport& transport_;
  io::FileSystem& files_;
  const ModelSource& model_;
  const CalibrationRequest& request_;
  at::ScalarType store_dtype_;
  std::vector<BlockRange> waves_;
  io::ActivationStore activations_;
  io::BlockStateStore states_;
  RunLog log_;
  KeptSamples kept_;
  RunContext context_;
  // On rank 0 only:
  std::optional<io::RunLock> lock_;
  std::optional<IdleRanks> others_;
  io::RunManifest manifest_;
  at::Tensor tokens_;
  ResumePoint point_;
};

}  // namespace

CalibrationResult calibrate(dist::Transport& transport, io::FileSystem& files,
                            const ModelSource& model, const CalibrationRequest& request) {
  check_request(request, model.family(), transport.size());
  return Calibration(transport, files, model, request).run();
}

}  // namespace lrq::pipeline
