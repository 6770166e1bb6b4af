#include "src/pipeline/kept_samples.h"

namespace lrq::pipeline {
namespace {

class KeptReader final : public io::BoundaryReader {
 public:
  KeptReader(KeptSamples& samples, const io::Boundary& boundary,
             std::unique_ptr<io::BoundaryReader> reader, Keep keep)
      : samples_(samples), boundary_(boundary), reader_(std::move(reader)), keep_(keep) {}

  [[nodiscard]] at::Tensor read(std::int64_t sample) const override {
    at::Tensor activation = samples_.find(boundary_, sample);
    if (activation.defined()) return activation;
    activation = reader_->read(sample);
    if (keep_ == Keep::kYes) samples_.keep(boundary_, sample, activation);
    return activation;
  }

 private:
  KeptSamples& samples_;  // Owns: borrowed from the run
  io::Boundary boundary_;
  std::unique_ptr<io::BoundaryReader> reader_;
  Keep keep_;
};

}  // namespace

at::Tensor KeptSamples::find(const io::Boundary& boundary, std::int64_t sample) const {
  const std::lock_guard lock(mutex_);
  const auto found = samples_.find({boundary, sample});
  return found == samples_.end() ? at::Tensor() : found->second;
}

void KeptSamples::keep(const io::Boundary& boundary, std::int64_t sample, at::Tensor activation) {
  const std::lock_guard lock(mutex_);
  samples_.insert_or_assign({boundary, sample}, std::move(activation));
}

void KeptSamples::clear() {
  const std::lock_guard lock(mutex_);
  samples_.clear();
}

std::unique_ptr<io::BoundaryReader> kept_reader(KeptSamples& samples, const io::Boundary& boundary,
                                                std::unique_ptr<io::BoundaryReader> reader,
                                                Keep keep) {
  return std::make_unique<KeptReader>(samples, boundary, std::move(reader), keep);
}

}  // namespace lrq::pipeline
