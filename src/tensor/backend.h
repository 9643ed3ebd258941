// Backend: what a processor or an accelerator implements. Owned and called by one thread (the
// engine's). A backend owns its weights (repacked as it likes), its activations and the bytes of
// the KV cache; the engine knows only programs, pages and rows, and never names a kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/cut.h"
#include "tensor/element_type.h"
#include "tensor/kv_type.h"
#include "tensor/program.h"

namespace shoal {

// A row's arithmetic follows its role and position, never what else is in the step.
enum class Role : uint8_t { kPrompt, kGenerated };

using PageId = int32_t;

// A tensor as it lies in the file: rows * row_bytes(type, columns) bytes. Vectors have one row.
struct TensorSource {
  std::string_view name;
  ElementType type;
  int64_t rows;
  int64_t columns;
  std::span<const std::byte> bytes;
  // Where set, a backend tells while it loads which of `bytes` it has done with, so that a file's
  // pages need not stay until the last of a big tensor is packed. About a MiB at a time, by any of
  // the backend's threads, several at once.
  std::function<void(std::span<const std::byte>)> done_with = {};
};

// The rows of one step; all spans have one entry per row unless said otherwise. Rows of one
// sequence follow one another in rising position.
struct StepBatch {
  std::span<const int32_t> tokens;
  std::span<const int32_t> positions;
  std::span<const Role> roles;
  std::span<const int32_t> sequences;  // index into page_tables
  std::span<const int32_t> wanted;     // rows that want a result, rising
  // page_tables[group][sequence]: position p lies in page [p / page_tokens], at offset p %
  // page_tokens.
  std::vector<std::vector<std::span<const PageId>>> page_tables;
  // A step may be run in parts, each segment of it part after part: where in the buffers the rows
  // of this part lie.
  int64_t first_row = 0;
  int64_t first_wanted = 0;
};

struct BackendLimits {
  int64_t rows;         // most rows of a step
  int64_t wanted_rows;  // most rows that want a result
  int64_t positions;    // longest sequence
};

struct BackendMemory {
  uint64_t weight_bytes = 0;  // as held, after repacking
  uint64_t activation_bytes = 0;
  uint64_t kv_bytes = 0;
};

// What one part of the program took (tensor/work.h says what belongs to which part).
struct ProfiledPart {
  std::string_view name;
  double seconds = 0;
  uint64_t calls = 0;
  double read_bytes = 0;
  double multiply_adds = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "cpu avx2, 2 threads"
  virtual int page_tokens() const = 0;   // positions per KV page

  // Checks the program (every id in range, widths that agree) and takes it. First call.
  virtual Status prepare(const Program& program, const BackendLimits& limits) = 0;
  // Copies and repacks one weight of the program, once each, in any order; the source may vanish
  // afterwards. kUnsupported for a type without kernels, kCorrupt for a shape that the program does
  // not expect.
  virtual Status load(WeightId weight, const TensorSource& source) = 0;
  // Room for so many pages in each cache group. After prepare.
  virtual Status allocate_kv(KvType type, std::span<const int64_t> pages) = 0;

  // Runs the operations of one segment. Only our own bugs and hardware fail here. Calls
  // `meanwhile`, if there is one, now and then (a processor: every millisecond or so) from the
  // calling thread, so that links move on; it must not touch the backend.
  virtual Status run(size_t segment, const StepBatch& batch,
                     const std::function<void()>& meanwhile = {}) = 0;
  // `count` rows of a buffer from `first` on, row-major, for collectives and results; valid until
  // those rows are run again.
  virtual std::span<float> rows(BufferId buffer, int64_t first, int64_t count) = 0;

  virtual BackendMemory memory() const = 0;

  // While on, run() times every operation, which slows small steps by a percent or so; turning on
  // starts from zero. After allocate_kv. A backend that cannot tell has no parts.
  virtual void set_profile(bool on) { (void)on; }
  virtual std::vector<ProfiledPart> profile() const { return {}; }
};

}  // namespace shoal
