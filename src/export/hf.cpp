#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "dist/collectives.h"
#include "io/checkpoint_reader.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/export/bias_plan.h"
#include "src/export/config_json.h"
#include "src/export/folded_block.h"
#include "src/export/registry.h"
#include "src/export/shard_plan.h"
#include "src/export/staged_folder.h"
#include "src/pipeline/block_method.h"

namespace lrq::exporter {
namespace {

namespace fs = std::filesystem;

// Copied as they are where the source has them.
constexpr std::array kSideFiles = {"tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "tokenizer.model",
                                   "vocab.json",
                                   "merges.txt",
                                   "added_tokens.json",
                                   "chat_template.json",
                                   "chat_template.jinja",
                                   "generation_config.json"};
constexpr std::array kLicenceFiles = {"LICENSE", "LICENCE", "NOTICE"};

bool is_side_file(const std::string& name) {
  return std::find(kSideFiles.begin(), kSideFiles.end(), name) != kSideFiles.end() ||
         std::any_of(kLicenceFiles.begin(), kLicenceFiles.end(),
                     [&](std::string_view start) { return name.starts_with(start); });
}

/// In pieces: isfinite makes two copies of what it looks at, and an embedding is large.
bool all_finite(const at::Tensor& tensor) {
  constexpr std::int64_t kPiece = 1 << 20;
  const std::vector<at::Tensor> pieces = tensor.flatten().split(kPiece);
  return std::all_of(pieces.begin(), pieces.end(),
                     [](const at::Tensor& piece) { return piece.isfinite().all().item<bool>(); });
}

/// What a folder of plain weights says nothing of, by the names of the recipe.
std::vector<std::string> left_out_of(const recipe::Recipe& recipe) {
  const auto& activations = recipe.activations;
  const int kv_bits = activations.kv_bits == 0 ? activations.bits : activations.kv_bits;
  std::vector<std::string> left_out;
  const auto add = [&](const char* field, int bits, const char* what) {
    left_out.push_back(
        concat("activations.", field, " = ", bits, " is left out: ", what, " are not quantized"));
  };
  if (activations.bits < 16) {
    add("bits", activations.bits,
        activations.quantize_q ? "inputs of the linears and queries" : "inputs of the linears");
  }
  if (kv_bits < 16 && activations.quantize_kv) add("kv_bits", kv_bits, "keys and values");
  return left_out;
}

/// A change of basis goes away where only weights are quantized: W^ M' is a weight like any other.
/// Beside quantized activations it must run with the model, which plain weights cannot say.
models::BlockMethod checked_method(const recipe::Recipe& recipe) {
  models::BlockMethod method = pipeline::block_method(recipe);
  const auto refuse = [](const std::string& what, const char* field, const char* fix) {
    throw UsageError({.what = concat(what,
                                     " works on activations before they are quantized, which "
                                     "a folder of plain weights cannot hold"),
                      .where = concat("the run's recipe, field ", field),
                      .fix = fix});
  };
  if (!method.map.none() && !method.activation.identity()) {
    refuse(
        "the change of basis (rotation, permutation, reflection) at qkv_in, out_in, mlp_in and "
        "down_in",
        recipe.rotation.kind == recipe::RotationKind::kOff ? "rotation.householder"
                                                           : "rotation.kind",
        "calibrate weights alone (--abits 16), or with --set rotation.kind=off "
        "--set rotation.householder=off");
  }
  if (method.hadamard_qk && !(method.query.identity() && method.key_value.identity())) {
    refuse("the Hadamard matrix on query and key", "rotation.qk",
           "calibrate with --set rotation.qk=off, or with --abits 16 --kv-bits 16");
  }
  return method;
}

/// Writes the tensors of one rank's files.
class HfExport {
 public:
  explicit HfExport(const Job& job)
      : job_(job),
        family_(job.model.family()),
        source_(io::open_checkpoint(job.model.folder())),
        method_(checked_method(job.recipe)),
        folder_(checked_folder(job)),
        biases_(plan_biases(
            family_, shifted(),
            method_.activation.identity() ? LinearInputs::kExact : LinearInputs::kQuantized)),
        shards_(plan_shards(tensors(), job.target.max_shard_bytes)) {}

  [[nodiscard]] Report write() {
    const bool first = job_.transport.rank().value == 0;
    Report report = about();
    try {
      if (first) folder_.begin(note(report));
      dist::barrier(job_.transport, "export begins");
      for (std::size_t i = 0; i < shards_.size(); ++i) {
        const auto owner = static_cast<int>(i) % job_.transport.size();
        if (owner == job_.transport.rank().value) write_shard(shards_[i]);
      }
      dist::barrier(job_.transport, "export ends");
      if (first) finish();
    } catch (const Error&) {
      if (first) folder_.discard();
      throw;
    }
    return report;
  }

 private:
  /// Checked before anything is read; by one rank, as the others would look while it writes.
  [[nodiscard]] static StagedFolder checked_folder(const Job& job) {
    StagedFolder folder(job.files, job.target.out);
    if (job.transport.rank().value == 0) folder.check(job.target, job.model.folder());
    return folder;
  }

  /// One rank reads every block file for all.
  [[nodiscard]] std::set<std::string> shifted() const {
    std::string found;
    if (job_.transport.rank().value == 0) {
      for (const std::string& pair : shifted_pairs(family_, job_.states, job_.model.blocks())) {
        found += pair + '\n';
      }
    }
    found = dist::broadcast_text(job_.transport, found, Rank{0}, "shifted pairs");
    std::set<std::string> pairs;
    for (std::size_t begin = 0; begin < found.size();) {
      const std::size_t end = found.find('\n', begin);
      pairs.insert(found.substr(begin, end - begin));
      begin = end + 1;
    }
    return pairs;
  }

  [[nodiscard]] at::ScalarType dtype_of(const std::string& tensor) const {
    if (job_.target.dtype) return *job_.target.dtype;
    const at::ScalarType stored = source_->dtype(job_.model.stored_name(tensor));
    if (stored == at::kFloat || stored == at::kHalf || stored == at::kBFloat16) return stored;
    throw DataError({.what = concat("the source stores the tensor as ", at::toString(stored),
                                    ", which is no dtype of an exported model"),
                     .where = concat(job_.model.folder().string(), ", tensor ", tensor),
                     .fix = "choose one with --dtype float32, float16 or bfloat16"});
  }

  /// All tensors of the exported model, in its own order; a bias that the source does not have
  /// follows its weight.
  [[nodiscard]] std::vector<io::PlannedTensor> tensors() {
    std::vector<io::PlannedTensor> all;
    std::set<std::string> seen;
    const auto add = [&](const models::TensorSpec& spec, const std::string& typed_by) {
      if (seen.insert(spec.name).second) {
        all.push_back({.name = spec.name, .dtype = dtype_of(typed_by), .shape = spec.shape});
      }
    };
    for (const auto& spec : family_.embedding_tensors()) add(spec, spec.name);
    for (int block = 0; block < job_.model.blocks(); ++block) {
      const std::string prefix = family_.block_prefix(BlockIndex{block});
      for (const auto& spec : family_.block_tensors(BlockIndex{block})) {
        add(spec, spec.name);
        block_of_.emplace(spec.name, block);
        for (const std::string& linear : biases_.linears) {
          if (spec.name != concat(prefix, linear, ".weight")) continue;
          const std::string bias = concat(prefix, linear, ".bias");
          add({bias, {spec.shape.front()}},
              source_->contains(job_.model.stored_name(bias)) ? bias : spec.name);
          block_of_.emplace(bias, block);
        }
      }
    }
    for (const auto& spec : family_.head_tensors()) add(spec, spec.name);
    return all;
  }

  /// Taken over from the source as it is.
  [[nodiscard]] bool is_copy(const io::PlannedTensor& tensor) const {
    return !block_of_.contains(tensor.name) &&
           source_->dtype(job_.model.stored_name(tensor.name)) == tensor.dtype;
  }

  /// The tensor in float32, or in its own dtype where it is not folded; blocks are folded one at a
  /// time, when their first tensor is due.
  [[nodiscard]] at::Tensor value_of(const io::PlannedTensor& tensor) {
    const auto block = block_of_.find(tensor.name);
    if (block == block_of_.end()) {
      return source_->read(job_.model.stored_name(tensor.name), tensor.shape, tensor.dtype);
    }
    if (folded_block_ != block->second) {
      folded_.clear();
      folded_block_ = block->second;
      const BlockIndex index{block->second};
      folded_ = folded_block(family_, index, job_.model.block(index),
                             job_.states.load_block(index).tensors, method_, biases_);
    }
    return folded_.at(tensor.name);
  }

  void write_shard(const Shard& shard) {
    io::SafetensorsWriter writer(job_.files, folder_.path() / shard.file, shard.tensors,
                                 {{"format", "pt"}});
    for (const io::PlannedTensor& planned : shard.tensors) {
      const at::Tensor typed = value_of(planned).to(planned.dtype);
      if (!is_copy(planned) && !all_finite(typed)) {
        throw DataError({.what = concat("a value is not finite in ", dtype_name(planned.dtype)),
                         .where = concat("tensor ", planned.name),
                         .fix = "choose --dtype bfloat16 or float32, whose range is larger"});
      }
      writer.add(planned.name, typed);
    }
    writer.finish();
  }

  [[nodiscard]] Report about() const {
    Report report;
    report.left_out = left_out_of(job_.recipe);
    std::set<std::string> written;
    for (const Shard& shard : shards_) {
      report.shards.push_back(shard.file);
      for (const io::PlannedTensor& tensor : shard.tensors) {
        report.tensor_bytes += tensor.bytes();
        written.insert(job_.model.stored_name(tensor.name));
      }
    }
    std::vector<std::string> unused;
    for (const std::string& name : source_->names()) {
      if (!written.contains(name)) unused.push_back(name);
    }
    if (!unused.empty()) {
      constexpr std::size_t kNamed = 4;
      const std::size_t count = unused.size();
      unused.resize(std::min(count, kNamed));
      report.left_out.push_back(concat(count, " tensors of the source that the run did not use: ",
                                       join(unused, ", "), count > kNamed ? ", ..." : ""));
    }
    return report;
  }

  [[nodiscard]] std::string note(const Report& report) const {
    const nlohmann::ordered_json note = {{"format", "lrq-dist export 1"},
                                         {"export_format", "hf"},
                                         {"version", job_.version},
                                         {"run", job_.run},
                                         {"left_out", report.left_out}};
    return note.dump(2) + "\n";
  }

  /// Everything but the tensors; config.json last, as no loader takes a folder without it.
  void finish() {
    if (shards_.size() > 1) {
      io::write_atomically(job_.files, folder_.path() / "model.safetensors.index.json",
                           shard_index(shards_));
    }
    const fs::path& source = job_.model.folder();
    for (const std::string& name : job_.files.list(source)) {
      if (!is_side_file(name) || !fs::is_regular_file(source / name)) continue;
      io::write_atomically(job_.files, folder_.path() / name, job_.files.read(source / name));
    }
    const fs::path config = source / "config.json";
    io::write_atomically(job_.files, folder_.path() / "config.json",
                         exported_config(job_.files.read(config),
                                         {.dtype = job_.target.dtype,
                                          .blocks = job_.model.blocks(),
                                          .keys_on = biases_.config_keys},
                                         config.string()));
    folder_.publish();
  }

  const Job& job_;  // Owns: borrowed for one export_hf() call
  const models::Family& family_;
  std::unique_ptr<io::CheckpointReader> source_;
  models::BlockMethod method_;
  StagedFolder folder_;
  BiasPlan biases_;
  std::map<std::string, int> block_of_;  // tensors that are folded -> their block
  std::vector<Shard> shards_;
  std::optional<int> folded_block_;
  models::NamedTensors folded_;
};

}  // namespace

Report export_hf(const Job& job) { return HfExport(job).write(); }

}  // namespace lrq::exporter
