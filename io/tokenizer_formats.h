#pragma once

#include <filesystem>
#include <memory>

#include "io/tokenizer.h"

namespace lrq::io {

/// Open a tokenizer.json that holds a BPE model.  Throws UnsupportedTokenizer (tokenizer_json.h)
/// for a kind that is not read, DataError for a broken file.
[[nodiscard]] std::unique_ptr<Tokenizer> open_bpe_tokenizer(const std::filesystem::path& file);

/// Open a folder's tokenizer.model with libsentencepiece.  Its BOS is put in front unless
/// tokenizer_config.json says "add_bos_token": false.  Throws DataError.
[[nodiscard]] std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(
    const std::filesystem::path& folder);

}  // namespace lrq::io
