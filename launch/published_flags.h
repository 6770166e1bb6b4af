#pragma once

#include <string>

#include "launch/options.h"

namespace lrq::cli {

/// Options of the published programs (OmniQuant, LRQuant, LRQuant+, RPTQ) that ours spells
/// otherwise: accepted with the same meaning where there is one (--let, --lwc, --lr_plus,
/// --aug_loss, ...), else refused with the name of ours.  Not shown by --help.  What a flag
/// switches on there is on in our recipes already where the method has it, so --let and --lwc
/// matter for other recipes. The options' callbacks throw UsageError.
void add_published_flags(CLI::App& command, RecipeOptions& options);

/// Those that concern evaluation, which is a command of its own here.
void add_published_eval_flags(CLI::App& command);

}  // namespace lrq::cli
