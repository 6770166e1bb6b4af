#include "io/token_file.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include <ATen/ATen.h>

#include "io/crc32c.h"
#include "io/token_formats.h"
#include "src/base/check.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

struct TokenFormat {
  const char* ending;
  at::Tensor (*read)(const std::filesystem::path& path);
};

constexpr std::array kTokenFormats = {
    TokenFormat{".h5", &read_tokens_h5},
    TokenFormat{".hdf5", &read_tokens_h5},
    TokenFormat{".npy", &read_tokens_npy},
    TokenFormat{".bin", &read_tokens_bin},
};

const TokenFormat* format_of(const std::filesystem::path& path) {
  for (const TokenFormat& format : kTokenFormats) {
    if (path.extension() == format.ending) return &format;
  }
  return nullptr;
}

[[noreturn]] void refuse_ending(const std::filesystem::path& path, const char* endings) {
  throw UsageError({.what = concat("file name ends in \"", path.extension().string(),
                                   "\", token files end in ", endings),
                    .where = path.string(),
                    .fix = "rename the file by its format"});
}

/// Errors of a file that a user names end in what a user can do about it.
at::Tensor read_ids(const TokenFormat& format, const std::filesystem::path& path) {
  try {
    return format.read(path);
  } catch (const DataError& error) {
    ErrorText text = error.text();
    text.fix = "check the path; lrq-dist tokenize writes such a file";
    throw DataError(text);
  }
}

void check_range(const at::Tensor& ids, std::int64_t vocab_size,
                 const std::filesystem::path& path) {
  const std::int64_t* data = ids.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    if (data[i] >= 0 && data[i] < vocab_size) continue;
    const std::string place = ids.dim() == 1
                                  ? concat("place ", i)
                                  : concat("row ", i / ids.size(1), ", place ", i % ids.size(1));
    throw DataError({.what = concat("token id is ", data[i], ", not from 0 to ", vocab_size - 1),
                     .where = concat(path.string(), ", ", place),
                     .fix = "make the ids with the tokenizer of this model"});
  }
}

}  // namespace

bool is_token_file(const std::filesystem::path& path) { return format_of(path) != nullptr; }

at::Tensor read_token_file(const std::filesystem::path& path, std::int64_t vocab_size) {
  const TokenFormat* format = format_of(path);
  if (format == nullptr) refuse_ending(path, ".h5, .hdf5, .npy or .bin");
  const at::Tensor ids = read_ids(*format, path);
  // An id must fit int32 whatever the model says.
  check_range(ids, std::min<std::int64_t>(vocab_size, std::numeric_limits<std::int32_t>::max()),
              path);
  return ids.to(at::kInt);
}

void write_token_file(FileSystem& files, const std::filesystem::path& path,
                      const at::Tensor& tokens) {
  expect(tokens.scalar_type() == at::kInt && (tokens.dim() == 1 || tokens.dim() == 2),
         "tokens are int32 [n] or [n, t]");
  const at::Tensor ids = tokens.contiguous();
  if (path.extension() == ".npy") {
    write_atomically(files, path, tokens_as_npy(ids));
  } else if (path.extension() == ".h5" || path.extension() == ".hdf5") {
    const std::filesystem::path temporary = path.string() + ".tmp";
    write_tokens_h5(temporary, ids);
    publish(files, temporary, path);
  } else {
    refuse_ending(path, ".h5, .hdf5 or .npy where they are written");
  }
}

std::string tokens_fingerprint(const at::Tensor& windows) {
  const auto bytes = std::as_bytes(
      std::span(windows.const_data_ptr<std::int32_t>(), static_cast<std::size_t>(windows.numel())));
  return concat(windows.size(0), " x ", windows.size(1), ", crc32c ", crc32c(bytes));
}

}  // namespace lrq::io
