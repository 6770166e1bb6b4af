#include "io/tokenizer.h"

#include "io/tokenizer_formats.h"
#include "io/tokenizer_json.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::io {

std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path json = folder / "tokenizer.json";
  const bool has_model = std::filesystem::exists(folder / "tokenizer.model");
  if (std::filesystem::exists(json)) {
    try {
      return open_bpe_tokenizer(json);
    } catch (const UnsupportedTokenizer& error) {
      if (!has_model) throw;
      log_event(LogLevel::kWarning, "tokenizer_model_used_instead",
                concat("what=\"", error.text().what, "\" where=\"", error.text().where, '"'));
    }
  }
  if (has_model) return open_sentencepiece_tokenizer(folder);
  throw DataError(
      {.what = "the folder holds no tokenizer: neither tokenizer.json nor tokenizer.model",
       .where = folder.string(),
       .fix = "download one of them, or make a tokenizer.json in transformers with "
              "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"});
}

}  // namespace lrq::io
