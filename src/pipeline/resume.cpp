#include "src/pipeline/resume.h"

namespace lrq::pipeline {

ResumePoint find_resume_point(const RunFacts& facts) {
  ResumePoint point;
  while (point.learn_wave < facts.waves && facts.blocks_complete(point.learn_wave)) {
    ++point.learn_wave;
  }
  if (point.learn_wave == facts.waves && facts.finished) {
    point.nothing_left = true;
    point.freeze_from = facts.waves;
    return point;
  }
  point.redo_maps = !facts.maps_complete();
  if (point.learn_wave < facts.waves && facts.cut && facts.cut->wave == point.learn_wave &&
      facts.cut->step > 0 && facts.snapshot_complete(*facts.cut)) {
    point.first_step = facts.cut->step;
  }
  // The newest wave whose inputs are there; those of wave 0 are the chain's.  Behind the last wave
  // there are no inputs: the last wave itself is frozen once more.
  point.freeze_from = point.learn_wave == facts.waves ? facts.waves - 1 : point.learn_wave;
  while (point.freeze_from > 0 && !facts.inputs_complete(point.freeze_from)) --point.freeze_from;
  point.redo_chain = !facts.chain_complete(point.freeze_from, point.redo_maps);
  return point;
}

}  // namespace lrq::pipeline
