#pragma once

#include "src/models/config_fields.h"
#include "src/models/model_config.h"

namespace lrq::models {

/// Read what every rotary decoder needs: MLP size, heads, norm, rotary settings, tied head.
/// Throws DataError naming the field: sizes that do not fit together, an unknown rope scaling, an
/// activation other than silu.
void read_rotary_config(const ConfigFields& fields, ModelConfig& config);

/// Read the sliding window of a family that may use it in some layers and not in others
/// (use_sliding_window, max_window_layers or layer_types).  A window must hold in all layers or in
/// none.  Throws DataError naming the field that says otherwise.
void read_window_of_layers(const ConfigFields& fields, ModelConfig& config);

}  // namespace lrq::models
