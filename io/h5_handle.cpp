#include "io/h5_handle.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <hdf5.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <sys/mman.h>

#include "io/file_system.h"
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
  std::erase(text, '\n');  // the driver puts one behind the time
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

void remove_quietly(const fs::path& path) {
  std::error_code ignored;  // a temporary name is never read, so a left-over does no harm
  fs::remove(path, ignored);
}

/// Takes the bytes of a file in memory from HDF5 when the file is closed.
struct ClosedFile {
  std::string bytes;
  std::size_t size = 0;  // HDF5 does not tell it when it gives its memory back

  static void* allocate(size_t size, H5FD_file_image_op_t, void*) { return std::malloc(size); }
  static void* grow(void* memory, size_t size, H5FD_file_image_op_t, void*) {
    return std::realloc(memory, size);
  }
  static void* copy(void* to, const void* from, size_t size, H5FD_file_image_op_t, void*) {
    return std::memcpy(to, from, size);
  }
  static herr_t give_back(void* memory, H5FD_file_image_op_t why, void* self) {
    auto& file = *static_cast<ClosedFile*>(self);
    if (why == H5FD_FILE_IMAGE_OP_FILE_CLOSE) {
      file.bytes.assign(static_cast<const char*>(memory), file.size);
    }
    std::free(memory);
    return 0;
  }
  static void* share(void* self) { return self; }
  static herr_t keep(void*) { return 0; }
};

/// The bytes of an HDF5 file that holds nothing yet.  (H5Fget_file_image is no way to get them: it
/// changes a flag in the superblock and leaves its checksum as it was.)
std::string make_empty_file() {
  constexpr std::size_t kGrowBytes = 4096;
  const std::string where = "HDF5 file in memory";
  ClosedFile closed;
  H5FD_file_image_callbacks_t calls = {&ClosedFile::allocate,
                                       &ClosedFile::copy,
                                       &ClosedFile::grow,
                                       &ClosedFile::give_back,
                                       &ClosedFile::share,
                                       &ClosedFile::keep,
                                       &closed};
  const H5Handle access = access_properties();
  h5_check(H5Pset_fapl_core(access.id(), kGrowBytes, /*backing_store=*/false), "choose memory",
           where);
  h5_check(H5Pset_file_image_callbacks(access.id(), &calls), "watch the memory", where);
  const H5Handle creation(H5Pcreate(H5P_FILE_CREATE), "make file creation properties", where);
  h5_check(H5Pset_obj_track_times(creation.id(), false), "leave time stamps out", where);
  H5Handle file(H5Fcreate("empty", H5F_ACC_TRUNC, creation.id(), access.id()), "create", where);
  h5_check(H5Fflush(file.id(), H5F_SCOPE_LOCAL), "write", where);
  hsize_t size = 0;
  h5_check(H5Fget_filesize(file.id(), &size), "measure", where);
  closed.size = static_cast<std::size_t>(size);
  h5_check(file.close(), "close", where);
  return std::move(closed.bytes);
}

/// Made once: HDF5 knows files in memory by their names, so two threads could not make one at a
/// time.
const std::string& empty_file() {
  static const std::string kBytes = make_empty_file();
  return kBytes;
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
  // A metadata flush that met a full disk leaves a file which HDF5 1.10 can never close again and
  // which its exit handler crashes on.  All our files are closed before the process ends anyway.
  static const bool kWithoutExitHandler = H5dont_atexit() >= 0;
  thread_local const bool kQuiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(kWithoutExitHandler);
  static_cast<void>(kQuiet);
}

int H5Handle::close() noexcept {
  const H5Id id = std::exchange(id_, kNone);
  return id < 0 ? 0 : H5Idec_ref(id);
}

H5OutputFile::H5OutputFile(const fs::path& path) : path_(path) {
  h5_begin();
  // H5Fcreate on a full disk leaves HDF5 with a file that it can neither close nor forget, so the
  // first bytes are made in memory and written by us.
  const std::string& image = empty_file();
  try {
    make_posix_file_system()->write(path, std::as_bytes(std::span(image.data(), image.size())));
    const H5Handle access = access_properties();
    file_ = H5Handle(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.id()), "open the new HDF5 file",
                     path.string());
  } catch (const Error&) {
    remove_quietly(path);
    throw;
  }
}

H5OutputFile::~H5OutputFile() {
  if (file_.id() < 0) return;
  discard();
  file_.reset();
  remove_quietly(path_);
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
