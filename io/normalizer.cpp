#include "io/normalizer.h"

#include "io/nfc.h"
#include "io/unicode.h"
#include "src/base/text.h"

namespace lrq::io {

Normalizer::Normalizer(const JsonPart& part) { add(part); }

void Normalizer::add(const JsonPart& part) {
  const std::string type = part.text("type");
  if (type == "Sequence") {
    for (const JsonPart& each : part.list("normalizers")) add(each);
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Kind::kPrepend, .to = part.text("prepend")});
  } else if (type == "Replace") {
    const JsonPart pattern = part.object("pattern");
    if (!pattern.has("String")) pattern.unsupported("normalizer replaces by a regular expression");
    steps_.push_back(
        {.kind = Kind::kReplace, .from = pattern.text("String"), .to = part.text("content")});
  } else if (type == "NFC") {
    steps_.push_back({.kind = Kind::kNfc});
  } else {
    part.unsupported(concat("normalizer is ", type, ", read are Sequence, Prepend, Replace, NFC"));
  }
}

std::string Normalizer::apply(std::string text) const {
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kPrepend:
        if (!text.empty()) text.insert(0, step.to);
        break;
      case Kind::kReplace:
        text = replace_all(text, step.from, step.to);
        break;
      case Kind::kNfc:
        text = to_nfc(text);
        break;
    }
  }
  return text;
}

}  // namespace lrq::io
