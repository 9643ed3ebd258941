#include "engine/step_header.h"

#include <bit>
#include <cstring>

namespace shoal {

namespace {

static_assert(std::endian::native == std::endian::little, "the header is little endian");

constexpr uint32_t kMagic = 0x54534853;  // "SHST"
constexpr uint16_t kVersion = 1;

struct FixedPart {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t kind = 0;
  uint64_t number = 0;
  uint32_t row_count = 0;
  uint32_t sequence_count = 0;
  uint32_t group_count = 0;
  uint32_t candidate_count = 0;
};
static_assert(sizeof(FixedPart) == 32);

struct WireRow {
  int32_t token;
  int32_t position;
  uint32_t sequence;
  uint8_t role;
  uint8_t want;
  uint16_t zero;
};
static_assert(sizeof(WireRow) == 16);

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  size_t left() const { return bytes_.size(); }
  template <typename T>
  bool read(T& value) {
    if (bytes_.size() < sizeof value) return false;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_ = bytes_.subspan(sizeof value);
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
};

void append(Bytes& frame, const void* data, size_t size) {
  if (size == 0) return;
  const size_t end = frame.size();
  frame.resize(end + size);
  std::memcpy(frame.data() + end, data, size);
}

std::unexpected<Error> cut_short(size_t size) {
  return fail(ErrorCode::kCorrupt, "a step header of {} bytes ends before its contents do", size);
}

Status decode_rows(Reader& reader, const FixedPart& fixed, size_t size, Step& step) {
  step.rows.resize(fixed.row_count);
  for (StepRow& row : step.rows) {
    WireRow wire;
    if (!reader.read(wire)) return cut_short(size);
    if (wire.role > static_cast<uint8_t>(Role::kGenerated) ||
        wire.want > static_cast<uint8_t>(Want::kHidden) || wire.zero != 0) {
      return fail(ErrorCode::kCorrupt, "a step header has a row of role {} that wants {}",
                  wire.role, wire.want);
    }
    row = {wire.sequence, wire.token, wire.position, static_cast<Role>(wire.role),
           static_cast<Want>(wire.want)};
  }
  return {};
}

Status decode_tables(Reader& reader, const StepLimits& limits, size_t size, Step& step) {
  const int64_t most_pages = limits.pages_for(limits.positions);
  for (auto& tables : step.sequences) {
    tables.resize(limits.groups.size());
    for (auto& table : tables) {
      uint32_t count = 0;
      if (!reader.read(count)) return cut_short(size);
      if (count > most_pages) {
        return fail(ErrorCode::kCorrupt,
                    "a step header has a page table of {} pages, the context takes {}", count,
                    most_pages);
      }
      if (count > reader.left() / sizeof(PageId)) return cut_short(size);
      table.resize(count);
      for (PageId& page : table) reader.read(page);
    }
  }
  return {};
}

Status check_tables(const Step& step, const StepLimits& limits) {
  const int64_t most_pages = limits.pages_for(limits.positions);
  for (size_t s = 0; s < step.sequences.size(); ++s) {
    if (step.sequences[s].size() != limits.groups.size()) {
      return fail(ErrorCode::kInvalidArgument, "sequence {} has {} page tables, not {}", s,
                  step.sequences[s].size(), limits.groups.size());
    }
    for (size_t group = 0; group < limits.groups.size(); ++group) {
      const auto& table = step.sequences[s][group];
      if (static_cast<int64_t>(table.size()) > most_pages) {
        return fail(ErrorCode::kInvalidArgument, "sequence {} has {} pages, the context takes {}",
                    s, table.size(), most_pages);
      }
      for (const PageId page : table) {
        if (page >= 0 && page < limits.groups[group].page_count) continue;
        return fail(ErrorCode::kInvalidArgument, "sequence {} has page {}; there are {}", s, page,
                    limits.groups[group].page_count);
      }
    }
  }
  return {};
}

Status check_row(const Step& step, size_t r, const StepLimits& limits) {
  const StepRow& row = step.rows[r];
  if (row.sequence >= step.sequences.size()) {
    return fail(ErrorCode::kInvalidArgument, "row {} belongs to sequence {}; the step has {}", r,
                row.sequence, step.sequences.size());
  }
  if (row.token < 0 || row.token >= limits.vocabulary) {
    return fail(ErrorCode::kInvalidArgument, "row {} has token {}; the vocabulary has {}", r,
                row.token, limits.vocabulary);
  }
  if (row.position < 0 || row.position >= limits.positions) {
    return fail(ErrorCode::kInvalidArgument, "row {} is at position {}; the context has {}", r,
                row.position, limits.positions);
  }
  if (r > 0 && step.rows[r - 1].sequence == row.sequence &&
      row.position != step.rows[r - 1].position + 1) {
    return fail(ErrorCode::kInvalidArgument, "row {} is at position {} after position {}", r,
                row.position, step.rows[r - 1].position);
  }
  for (const auto& table : step.sequences[row.sequence]) {
    const int64_t held = static_cast<int64_t>(table.size()) * limits.page_tokens;
    if (held > row.position) continue;
    return fail(ErrorCode::kInvalidArgument,
                "row {} is at position {}; the {} pages of its sequence hold {}", r, row.position,
                table.size(), held);
  }
  return {};
}

}  // namespace

Status check_step(const Step& step, const StepLimits& limits, std::vector<bool>& seen) {
  const auto rows = static_cast<int64_t>(step.rows.size());
  if (rows < 1 || rows > limits.rows) {
    return fail(ErrorCode::kInvalidArgument, "a step of {} rows; this instance takes 1 to {}", rows,
                limits.rows);
  }
  if (step.sequences.empty() || step.sequences.size() > step.rows.size()) {
    return fail(ErrorCode::kInvalidArgument, "a step of {} rows has {} sequences", rows,
                step.sequences.size());
  }
  if (step.candidate_count < 1 || step.candidate_count > kMostCandidates) {
    return fail(ErrorCode::kInvalidArgument, "{} candidates asked for; 1 to {} can be had",
                step.candidate_count, kMostCandidates);
  }
  SHOAL_TRY(check_tables(step, limits));
  seen.assign(step.sequences.size(), false);
  int64_t wanted = 0;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    SHOAL_TRY(check_row(step, r, limits));
    const uint32_t sequence = step.rows[r].sequence;
    const bool follows = r > 0 && step.rows[r - 1].sequence == sequence;
    if (!follows && seen[sequence]) {
      return fail(ErrorCode::kInvalidArgument,
                  "row {}: the rows of sequence {} do not follow one another", r, sequence);
    }
    seen[sequence] = true;
    wanted += step.rows[r].want != Want::kNothing;
  }
  if (wanted > limits.wanted_rows) {
    return fail(ErrorCode::kInvalidArgument,
                "{} rows of a step want a result; this instance returns {} at most", wanted,
                limits.wanted_rows);
  }
  return {};
}

void encode_step(const Step& step, Bytes& frame) {
  FixedPart fixed;
  fixed.kind = static_cast<uint16_t>(HeaderKind::kStep);
  fixed.number = step.number;
  fixed.row_count = static_cast<uint32_t>(step.rows.size());
  fixed.sequence_count = static_cast<uint32_t>(step.sequences.size());
  fixed.group_count = static_cast<uint32_t>(step.sequences.front().size());
  fixed.candidate_count = step.candidate_count;
  frame.clear();
  append(frame, &fixed, sizeof fixed);
  for (const StepRow& row : step.rows) {
    const WireRow wire{row.token,
                       row.position,
                       row.sequence,
                       static_cast<uint8_t>(row.role),
                       static_cast<uint8_t>(row.want),
                       0};
    append(frame, &wire, sizeof wire);
  }
  for (const auto& tables : step.sequences) {
    for (const auto& table : tables) {
      const auto count = static_cast<uint32_t>(table.size());
      append(frame, &count, sizeof count);
      append(frame, table.data(), table.size() * sizeof(PageId));
    }
  }
}

void encode_signal(HeaderKind kind, Bytes& frame) {
  FixedPart fixed;
  fixed.kind = static_cast<uint16_t>(kind);
  frame.clear();
  append(frame, &fixed, sizeof fixed);
}

Result<HeaderKind> decode_header(std::span<const std::byte> frame, const StepLimits& limits,
                                 Step& step) {
  Reader reader(frame);
  FixedPart fixed;
  if (!reader.read(fixed)) return cut_short(frame.size());
  if (fixed.magic != kMagic || fixed.version != kVersion) {
    return fail(ErrorCode::kCorrupt,
                "not a step header of version {} (magic {:08x}, version {}); do all nodes run the "
                "same version of Shoal?",
                kVersion, fixed.magic, fixed.version);
  }
  const auto kind = static_cast<HeaderKind>(fixed.kind);
  if (kind == HeaderKind::kStep) {
    if (fixed.row_count > static_cast<uint64_t>(limits.rows) ||
        fixed.sequence_count > fixed.row_count || fixed.group_count != limits.groups.size()) {
      return fail(ErrorCode::kCorrupt,
                  "a step header announces {} rows, {} sequences and {} cache groups; at most {} "
                  "rows and exactly {} groups belong to this instance",
                  fixed.row_count, fixed.sequence_count, fixed.group_count, limits.rows,
                  limits.groups.size());
    }
    step.number = fixed.number;
    step.candidate_count = fixed.candidate_count;
    SHOAL_TRY(decode_rows(reader, fixed, frame.size(), step));
    step.sequences.resize(fixed.sequence_count);
    SHOAL_TRY(decode_tables(reader, limits, frame.size(), step));
  } else if (kind != HeaderKind::kTick && kind != HeaderKind::kStop) {
    return fail(ErrorCode::kCorrupt, "a step header of kind {}, which is unknown", fixed.kind);
  }
  if (reader.left() != 0) {
    return fail(ErrorCode::kCorrupt, "a step header of {} bytes has {} bytes too many",
                frame.size(), reader.left());
  }
  return kind;
}

}  // namespace shoal
