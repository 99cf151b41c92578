#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <rino/core/error.hpp>

namespace rino {

namespace detail {

/// @param error  the errno of the system call that failed.
[[noreturn]] inline void fail_writing(const std::filesystem::path& path, int error) {
  const auto remedy = [error] {
    switch (error) {
      case ENOSPC:
      case EDQUOT:
        return "make room on that disk or write to another one";
      case EFBIG:
        return "the file would be larger than the file system or `ulimit -f` allows: raise the limit or write "
               "elsewhere";
      case ENOENT:
      case ENOTDIR:
        return "its folder does not exist: create it or correct the path";
      case EACCES:
      case EPERM:
      case EROFS:
        return "write to a folder where you may create files";
      default:
        return "check the disk or write to another one";
    }
  };
  fail("cannot write ", path, " (", std::generic_category().message(error), "): ", remedy());
}

/// This machine's name, as far as it may stand in a file's, and the inode of the namespace of its processes, of which
/// containers may have their own: a process is known by them and its number in a folder that several machines write to.
inline std::string machine_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  std::string text = name.data();
  std::erase_if(text, [](char c) { return c == '@' || c == '/'; });
  text = text.substr(0, 40);
  struct stat namespace_of_processes{};
  if (::stat("/proc/self/ns/pid", &namespace_of_processes) == 0) {
    text += "-" + std::to_string(namespace_of_processes.st_ino);
  }
  return text;
}

/// Writes all bytes or throws; `path` is for the error.
inline void write_all(int descriptor, const void* data, std::size_t size, const std::filesystem::path& path) {
  // Some systems refuse to write 2 GiB at once.
  constexpr std::size_t at_once = std::size_t{1} << 30;
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor, next, std::min(size, at_once));
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail_writing(path, errno);
    }
    next += written;
    size -= static_cast<std::size_t>(written);
  }
}

}  // namespace detail

/// A file that appears under its name whole or not at all. What is written goes to a temporary name in the same
/// folder (`.rino-<process>@<machine>-<number>.tmp`) until `commit`; without it the destructor removes the temporary
/// file, and an earlier file of the same name stays as it was.
class AtomicFile {
 public:
  /// @param path  the final name; its folder must exist. A file of that name is replaced.
  /// @throws rino::Error where no file can be made, and where `path` is a folder or a device.
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code ignored;
    const std::filesystem::file_status status = std::filesystem::status(path_, ignored);
    require(path_.has_filename(), "cannot write ", path_, ": it has no file name, give one");
    // Renaming would put a file in the place of a device such as /dev/null.
    require(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), "cannot write ", path_,
            ": there is something of that name that is no ordinary file, give another name");
    for (int number = 0; descriptor_ < 0; ++number) {
      temporary_ = path_.parent_path() / (".rino-" + std::to_string(::getpid()) + "@" + detail::machine_name() + "-" +
                                          std::to_string(number) + ".tmp");
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
      if (descriptor_ < 0 && errno != EEXIST && errno != EINTR) {
        detail::fail_writing(path_, errno);
      }
    }
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
    if (!committed_) {
      ::unlink(temporary_.c_str());
    }
  }

  /// The final name.
  const std::filesystem::path& path() const { return path_; }

  /// Appends `size` bytes. @throws rino::Error with the cause, such as a full disk.
  void write(const void* data, std::size_t size) { detail::write_all(descriptor_, data, size, path_); }
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Brings the bytes to the disk and gives the file its final name. Nothing may be written afterwards.
  void commit() {
    // Without fsync a power cut can leave an empty file under the final name; a few file systems have no fsync.
    if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) {
      detail::fail_writing(path_, errno);
    }
    if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
      detail::fail_writing(path_, errno);
    }
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
      detail::fail_writing(path_, errno);
    }
    committed_ = true;
    // Makes the rename itself durable. The file is whole by now in any case, so a failure here is none of it.
    const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0) {
      ::fsync(descriptor);
      ::close(descriptor);
    }
  }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// Makes the file `path` of what `write(file)` writes to the `AtomicFile&` it is given; when `write` throws, or the
/// disk fills, there is neither a new file nor a temporary one, and an earlier file of that name is untouched.
///
/// Example:
/// @code
/// rino::write_atomically("run/notes.txt", [](rino::AtomicFile& file) { file.write("epoch 5\n"); });
/// @endcode
///
/// @throws rino::Error with the path, the cause and the remedy; and whatever `write` throws.
template <std::invocable<AtomicFile&> Write>
void write_atomically(const std::filesystem::path& path, Write&& write) {
  AtomicFile file(path);
  std::invoke(std::forward<Write>(write), file);
  file.commit();
}

}  // namespace rino
