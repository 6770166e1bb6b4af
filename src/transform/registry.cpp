#include <algorithm>

#include "src/transform/givens.h"
#include "src/transform/hadamard.h"
#include "src/transform/householder.h"
#include "src/transform/permutation.h"
#include "src/transform/rotation.h"
#include "src/transform/scale.h"
#include "src/transform/shift.h"
#include "src/transform/transform.h"

namespace lrq::transform {

const std::vector<const Kind*>& kinds() {
  static const std::vector<const Kind*> kKinds = {
      &givens_kind(),       //
      &hadamard_kind(),     //
      &householder_kind(),  //
      &permutation_kind(),  //
      &rotation_kind(),     //
      &scale_kind(),        //
      &shift_kind(),        //
  };
  return kKinds;
}

const Kind* find_kind(std::string_view name) {
  const auto found = std::find_if(kinds().begin(), kinds().end(),
                                  [&](const Kind* kind) { return kind->name == name; });
  return found == kinds().end() ? nullptr : *found;
}

}  // namespace lrq::transform
