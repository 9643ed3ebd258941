#include "cli/remote_inspect.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/units.h"
#include "store/hugging_face.h"

namespace shoal::cli {
namespace {

constexpr uint64_t kFirstBytes = 1 << 20;  // a header without a vocabulary, or most of a small one
constexpr uint64_t kMostBytes = 256ull << 20;  // vocabularies of 262,144 tokens need about 15 MB
constexpr uint64_t kMostTableBytes = 1 << 20;  // of a table that describing a model reads

// A file as long as the one afar, of which only what was fetched takes memory.
struct SparseFile {
  UniqueFd fd;
  std::string name;
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd.get()); }
  Status write(std::span<const std::byte> bytes, uint64_t offset) const {
    while (!bytes.empty()) {
      const ssize_t put =
          ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return system_error("cannot keep the header of", name);
      bytes = bytes.subspan(static_cast<size_t>(put));
      offset += static_cast<uint64_t>(put);
    }
    return {};
  }
};

Result<SparseFile> fetch_header(const HuggingFaceSource& source, const NetworkPatience& patience,
                                CancelFlag cancel) {
  SparseFile file;
  file.name = fmt::format("hf:{}/{}", source.repo, source.file);
  Bytes head;
  uint64_t file_bytes = 0;
  for (uint64_t wanted = kFirstBytes; head.size() < wanted;) {
    SHOAL_ASSIGN(const RemoteRange more,
                 hugging_face_range(source, head.size(), wanted - head.size(), patience, cancel));
    if (!head.empty() && (more.file_bytes != file_bytes || more.bytes.empty())) {
      return fail(ErrorCode::kConflict, "{} changed while it was being read; try again", file.name);
    }
    file_bytes = more.file_bytes;
    head.insert(head.end(), more.bytes.begin(), more.bytes.end());
    SHOAL_ASSIGN(const uint64_t needed, gguf::File::header_bytes(head, file_bytes, file.name));
    if (needed <= head.size()) break;
    if (needed > kMostBytes) {
      return fail(ErrorCode::kTooLarge,
                  "the header of {} needs {}, and {} is the most that is read", file.name,
                  format_bytes(needed), format_bytes(kMostBytes));
    }
    // Doubling, a header takes few requests and at most twice its size.
    wanted = std::min({file_bytes, kMostBytes, std::max(needed, 2 * uint64_t{head.size()})});
  }
  file.fd.reset(::memfd_create("shoal-header", MFD_CLOEXEC));
  if (!file.fd || ::ftruncate(file.fd.get(), static_cast<off_t>(file_bytes)) != 0)
    return system_error("cannot make room for the header of", file.name);
  SHOAL_TRY(file.write(head, 0));
  return file;
}

}  // namespace

Result<RemoteModel> open_remote(const std::vector<HuggingFaceSource>& sources,
                                const NetworkPatience& patience, CancelFlag cancel) {
  RemoteModel model;
  std::vector<SparseFile> sparse;
  std::vector<gguf::File::NamedBytes> named;
  for (const HuggingFaceSource& source : sources) {
    SHOAL_ASSIGN(SparseFile file, fetch_header(source, patience, cancel));
    SHOAL_ASSIGN(MappedFile mapped, MappedFile::open(file.path()));
    named.push_back({mapped.bytes(), file.name});
    model.files.push_back(std::move(mapped));
    sparse.push_back(std::move(file));
  }
  SHOAL_ASSIGN(model.file, gguf::File::parse_parts(named));
  for (const gguf::TensorInfo& tensor : model.file.tensors()) {
    // Rotary tables are part of what the model is, and checked when it is described.
    if (!tensor.name.starts_with("rope_") || tensor.size_bytes == 0 ||
        tensor.size_bytes > kMostTableBytes) {
      continue;
    }
    SHOAL_ASSIGN(const RemoteRange table, hugging_face_range(sources[tensor.part], tensor.offset,
                                                             tensor.size_bytes, patience, cancel));
    SHOAL_TRY(sparse[tensor.part].write(table.bytes, tensor.offset));
  }
  return model;
}

}  // namespace shoal::cli
