#include "src/pipeline/block_samples.h"

namespace lrq::pipeline {

void pass_samples(const BlockSamples& block, const models::NamedTensors& learnables,
                  const models::BlockMethod& method, const ObserveSite& observe) {
  const models::EffectiveBlock folded =
      models::fold(block.family, block.weights, learnables, method, block.compute);
  const models::SiteFunction sites = models::quantizing_sites(block.family, method, folded);
  const quant::IndexRange mine = block.share.of(block.samples);
  for (std::int64_t sample = mine.first; sample < mine.first + mine.count; ++sample) {
    (void)block.family.forward(folded, block.read(sample),
                               [&](models::Site site, const at::Tensor& x) {
                                 at::Tensor leaving = sites(site, x);
                                 observe(sample, site, leaving);
                                 return leaving;
                               });
    block.share.alive();
  }
}

}  // namespace lrq::pipeline
