#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/io/atomic_file.hpp>

namespace rino {

/// A tensor on the CPU whose values, undefined at first, lie in a file of its own in the folder for temporary files.
/// The file has no name any more and goes away with the tensor, also where the process is killed.
///
/// Its room is taken at once: a disk that filled up later would end the process in the middle of a copy.
/// @throws rino::Error naming the folder and how much room was asked for, if there is none.
inline at::Tensor scratch_tensor(at::IntArrayRef sizes, at::ScalarType type) {
  std::error_code missing;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(missing);
  require(!missing, "the folder for temporary files (TMPDIR) cannot be used: ", missing.message());
  std::string path = (folder / "rino-scratch-XXXXXX").string();
  const int descriptor = ::mkstemp(path.data());  // a new file, which no link can be
  if (descriptor < 0) {
    detail::fail_writing(path, errno);
  }
  const std::int64_t count = c10::multiply_integers(sizes);
  const auto bytes = count * static_cast<std::int64_t>(c10::elementSize(type));
  const int error = bytes > 0 ? ::posix_fallocate(descriptor, 0, bytes) : 0;
  ::close(descriptor);
  if (error != 0) {
    ::unlink(path.c_str());
    fail("there is no room for ", bytes, " bytes in ", folder, " (", std::generic_category().message(error),
         "): make some, or set TMPDIR to another folder");
  }
  try {
    const at::TensorOptions options = at::TensorOptions(at::kCPU).dtype(type);
    const at::Tensor mapped =
        bytes > 0 ? at::from_file(path, /*shared=*/true, count, options) : at::empty({0}, options);
    ::unlink(path.c_str());
    return mapped.view(sizes);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace rino
