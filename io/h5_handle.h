#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

namespace lrq::io {

using H5Id = std::int64_t;  ///< HDF5's hid_t, so that this header needs none of HDF5's

/// Keep an HDF5 library call honest: a negative `result` becomes a DataError with the call that was
/// tried, file and dataset (`where`), and HDF5's own error stack.  A full disk is named as such.
/// Returns the result.  Threads: any.
H5Id h5_check(H5Id result, std::string_view tried, std::string_view where);

/// Stop HDF5 from printing error stacks in the calling thread (HDF5 keeps that per thread), as
/// every error reaches the user once, in a DataError; and from tidying up when the process exits.
/// Call it first in each function that calls HDF5.
void h5_begin();

/// One reference to an HDF5 object of any kind: file, dataset, space, type, property list.
class H5Handle {
 public:
  H5Handle() = default;
  /// Take over the id that a call returned.  Throws like h5_check().
  H5Handle(H5Id id, std::string_view tried, std::string_view where)
      : id_(h5_check(id, tried, where)) {}
  ~H5Handle() { reset(); }
  H5Handle(const H5Handle&) = delete;
  H5Handle& operator=(const H5Handle&) = delete;
  H5Handle(H5Handle&& other) noexcept : id_(std::exchange(other.id_, kNone)) {}
  H5Handle& operator=(H5Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, kNone);
    }
    return *this;
  }

  [[nodiscard]] H5Id id() const { return id_; }
  /// Give the reference back.
  void reset() noexcept { static_cast<void>(close()); }
  /// The same, and tell: negative if HDF5 could not.
  int close() noexcept;

 private:
  static constexpr H5Id kNone = -1;
  H5Id id_ = kNone;
};

/// An HDF5 file that is being written, under the name given, until close().
///
/// HDF5 keeps a file that it could not close, tries again when the process ends, and crashes there.
/// So nothing is closed here before a flush has succeeded, a file that cannot be flushed is first
/// turned away from the disk (discard()), and HDF5's exit handler is off (h5_begin()).
/// Throws DataError.  Threads: one at a time.
class H5OutputFile {
 public:
  /// Create or truncate.  Its metadata carries HDF5's own checksums and the file itself no time
  /// stamp.
  explicit H5OutputFile(const std::filesystem::path& path);
  /// A file that was not closed is discarded and removed from the disk.
  ~H5OutputFile();
  H5OutputFile(const H5OutputFile&) = delete;
  H5OutputFile& operator=(const H5OutputFile&) = delete;

  [[nodiscard]] H5Id id() const { return file_.id(); }
  /// Write everything that HDF5 holds back.  Call it before handles of datasets are reset.
  void flush();
  /// Close; all handles of objects in the file are reset by now, after a flush().
  void close();
  /// Let all further writes end in nothing, so that handles can be reset.  For use on errors.
  void discard() noexcept;

 private:
  std::filesystem::path path_;
  H5Handle file_;
};

/// Open a file for reading, without HDF5's file locks (they fail on many cluster file systems, and
/// nobody writes to a file that has its final name).
[[nodiscard]] H5Handle h5_open(const std::filesystem::path& path);

/// bfloat16 as HDF5 sees it: a little-endian 16-bit float, sign at bit 15, exponent 8 bits at 7
/// with bias 127, mantissa 7 bits at 0.  h5py reads it as float32.
[[nodiscard]] H5Handle h5_bfloat16_type();

}  // namespace lrq::io
