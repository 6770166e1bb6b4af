#include "io/h5_handle.h"

#include <cerrno>
#include <fcntl.h>
#include <hdf5.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <sys/mman.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;

herr_t collect(unsigned, const H5E_error2_t* error, void* text) {
  auto& out = *static_cast<std::string*>(text);
  if (error->desc == nullptr || *error->desc == '\0') return 0;
  if (!out.empty()) out += ": ";
  out += error->desc;
  return 0;
}

/// HDF5's own words, from the call that was made down to the cause.
std::string error_stack() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, collect, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "HDF5 gives no reason" : text;
}

bool names(const std::string& text, int error_number) {
  return text.find(std::generic_category().message(error_number)) != std::string::npos;
}

/// File access properties of every file that we open.
H5Handle access_properties() {
  H5Handle list(H5Pcreate(H5P_FILE_ACCESS), "make file access properties", "HDF5");
#if H5_VERSION_GE(1, 12, 1) || (H5_VERS_MINOR == 10 && H5_VERS_RELEASE >= 7)
  h5_check(H5Pset_file_locking(list.id(), false, true), "switch file locking off", "HDF5");
#endif
  // From 1.8 on metadata has checksums; what that format lacks is taken from the newest.
  h5_check(H5Pset_libver_bounds(list.id(), H5F_LIBVER_V18, H5F_LIBVER_LATEST),
           "choose the file format", "HDF5");
  return list;
}

}  // namespace

H5Id h5_check(H5Id result, std::string_view tried, std::string_view where) {
  if (result >= 0) return result;
  const std::string stack = error_stack();
  const bool full = names(stack, ENOSPC) || names(stack, EDQUOT);
  throw DataError(
      {.what =
           concat("cannot ", tried, ": ", full ? "the disk is full: " : "", "HDF5 says: ", stack),
       .where = std::string(where),
       .fix = full ? "free space there, or name another folder with --run"
                   : "remove that file and run again with --resume: what it held is made again"});
}

void h5_begin() {
  thread_local const bool quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(quiet);
}

int H5Handle::close() noexcept {
  const H5Id id = std::exchange(id_, kNone);
  return id < 0 ? 0 : H5Idec_ref(id);
}

H5OutputFile::H5OutputFile(const fs::path& path) : path_(path) {
  h5_begin();
  const H5Handle access = access_properties();
  file_ = H5Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()),
                   "create the HDF5 file", path.string());
}

H5OutputFile::~H5OutputFile() {
  if (file_.id() < 0) return;
  discard();
  file_.reset();
  std::error_code ignored;  // a temporary name is never read, so a left-over does no harm
  fs::remove(path_, ignored);
}

void H5OutputFile::flush() {
  h5_check(H5Fflush(file_.id(), H5F_SCOPE_LOCAL), "write", path_.string());
}

void H5OutputFile::close() {
  flush();
  // What closing still writes lies in blocks that the flush has just written.
  h5_check(file_.close(), "close", path_.string());
}

void H5OutputFile::discard() noexcept {
  void* handle = nullptr;
  if (file_.id() < 0 || H5Fget_vfd_handle(file_.id(), H5P_DEFAULT, &handle) < 0) return;
  const int nowhere = ::memfd_create("lrq-discarded", MFD_CLOEXEC);
  if (nowhere < 0) return;
  ::dup3(nowhere, *static_cast<int*>(handle), O_CLOEXEC);
  ::close(nowhere);
}

H5Handle h5_open(const fs::path& path) {
  h5_begin();
  const H5Handle access = access_properties();
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), "open the HDF5 file", path.string()};
}

H5Handle h5_bfloat16_type() {
  H5Handle type(H5Tcopy(H5T_IEEE_F32LE), "copy a type", "HDF5");
  h5_check(H5Tset_fields(type.id(), 15, 7, 8, 0, 7), "set the fields of bfloat16", "HDF5");
  h5_check(H5Tset_precision(type.id(), 16), "set the precision of bfloat16", "HDF5");
  h5_check(H5Tset_size(type.id(), 2), "set the size of bfloat16", "HDF5");
  h5_check(H5Tset_ebias(type.id(), 127), "set the bias of bfloat16", "HDF5");
  return type;
}

}  // namespace lrq::io
