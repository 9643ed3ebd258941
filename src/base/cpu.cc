#include "base/cpu.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/cgroup.h"
#include "base/file.h"
#include "base/log.h"

namespace shoal {
namespace {

constexpr std::array kIsas = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAmx, Isa::kNeon};
// Those that src/kernels has a table for.
constexpr std::array kIsasWithKernels = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAmx,
                                         Isa::kNeon};

bool has_kernels(Isa isa) {
  return std::ranges::count(kIsasWithKernels, isa) > 0;
}

[[maybe_unused]] bool bits(uint64_t value, std::initializer_list<int> positions) {
  return std::ranges::all_of(positions, [&](int bit) { return (value >> bit & 1) != 0; });
}

#if defined(__x86_64__)

struct Leaf {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Leaf cpuid(uint32_t number, uint32_t part = 0) {
  Leaf leaf;
  if (__get_cpuid_max(number & 0x80000000u, nullptr) < number) return leaf;
  __cpuid_count(number, part, leaf.a, leaf.b, leaf.c, leaf.d);
  return leaf;
}

// Which register states the operating system saves (XCR0); none before it turned saving on.
uint64_t saved_states() {
  if (!bits(cpuid(1).c, {27})) return 0;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Bits are Intel's, Software Developer's Manual volume 2A, CPUID.
bool has_avx2() {
  return bits(cpuid(1).c, {12, 28, 29}) &&  // FMA, AVX, F16C
         bits(cpuid(7).b, {5}) && bits(saved_states(), {1, 2});
}
bool has_avx512() {
  return bits(cpuid(7).b, {16, 17, 30, 31}) && bits(cpuid(7).c, {11}) &&  // F, DQ, BW, VL; VNNI
         bits(saved_states(), {1, 2, 5, 6, 7});
}
bool has_avx_vnni() {
  return has_avx2() && cpuid(7).a >= 1 && bits(cpuid(7, 1).a, {4});
}
// Tiles of 16 rows of 64 bytes, eight of them, as all processors have so far that have any.
bool has_amx() {
  const Leaf palette = cpuid(0x1d, 1);
  return bits(cpuid(7).d, {24, 25}) &&  // TILE, INT8
         bits(saved_states(), {17, 18}) && palette.a >> 16 == 1024 && palette.b >> 16 >= 8 &&
         (palette.b & 0xffff) == 64 && (palette.c & 0xffff) >= 16;
}
// The kernel keeps tiles only for processes that have asked, with all their threads; before the
// first use of one (Linux, Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return true;
  log::warn(
      "the processor has amx, but the kernel refuses its tiles to this process: {}; the next best "
      "instruction set is used",
      std::strerror(errno));
  return false;
}

std::string brand() {
  std::string text;
  for (uint32_t number = 0x80000002; number <= 0x80000004; ++number) {
    const Leaf leaf = cpuid(number);
    for (const uint32_t word : {leaf.a, leaf.b, leaf.c, leaf.d}) {
      for (int byte = 0; byte < 4; ++byte) text += static_cast<char>(word >> (8 * byte));
    }
  }
  text = text.c_str();  // up to the first zero
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

#else

bool has_avx2() {
  return false;
}
bool has_avx512() {
  return false;
}
bool has_avx_vnni() {
  return false;
}
bool has_amx() {
  return false;
}
bool may_use_tiles() {
  return false;
}
std::string brand() {
  return "";
}

#endif

#if defined(__aarch64__)

// Bits are Linux's ("ARM64 ELF hwcaps"). NEON itself is a part of the architecture.
bool has_neon() {
  return true;
}
bool has_dot_products() {
  return bits(::getauxval(AT_HWCAP), {20});  // ASIMDDP
}
bool has_matrix_products() {
  return has_dot_products() && bits(::getauxval(AT_HWCAP2), {13});  // I8MM
}

#else

bool has_neon() {
  return false;
}
bool has_dot_products() {
  return false;
}
bool has_matrix_products() {
  return false;
}

#endif

// Processors of most architectures do not tell their names; boards do.
std::string board() {
  const auto model = read_file("/sys/firmware/devicetree/base/model", 1 << 10);
  return model ? model->c_str() : "";  // up to the zero that ends it
}

// The value in bytes of a "Name:   123 kB" line of /proc/meminfo, or 0.
uint64_t meminfo_bytes(std::string_view name) {
  const auto text = read_file("/proc/meminfo", 1 << 20);
  if (!text) return 0;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    uint64_t kib = 0;
    if (words >> key >> kib && key.size() == name.size() + 1 && key.starts_with(name)) {
      return kib * 1024;
    }
  }
  return 0;
}

std::vector<int> read_usable_cores() {
  // A mask larger than cpu_set_t happens on machines of over 1024 cores.
  for (int count = 1024; count <= 1 << 20; count *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(count));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(count));
    // The first thread's mask: others may have been pinned.
    const int failed = ::sched_getaffinity(::getpid(), bytes, mask);
    const bool too_small = failed != 0 && errno == EINVAL;
    std::vector<int> cores;
    if (failed == 0) {
      for (int core = 0; core < count; ++core) {
        if (CPU_ISSET_S(static_cast<size_t>(core), bytes, mask)) cores.push_back(core);
      }
    }
    CPU_FREE(mask);
    if (!cores.empty()) return cores;
    if (!too_small) break;
  }
  return {0};
}

std::string names_of_present() {
  std::string names;
  for (const Isa isa : kIsas) {
    if (!machine_has(isa)) continue;
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  return names;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  constexpr std::array<std::string_view, 5> names = {"reference", "avx2", "avx512", "amx", "neon"};
  return names[static_cast<size_t>(isa)];
}

bool machine_has_avx_vnni() {
  static const bool has = has_avx_vnni();
  return has;
}

bool machine_has_dot_products() {
  static const bool has = has_dot_products();
  return has;
}

bool machine_has_matrix_products() {
  static const bool has = has_matrix_products();
  return has;
}

bool machine_has(Isa isa) {
  static const bool avx2 = has_avx2();
  static const bool avx512 = avx2 && has_avx512();
  switch (isa) {
    case Isa::kReference:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAmx: {
      static const bool amx = avx512 && has_amx() && may_use_tiles();
      return amx;
    }
    case Isa::kNeon:
      return has_neon();
  }
  return false;
}

Result<Isa> choose_isa(std::string_view wanted) {
  if (wanted.empty()) {
    Isa best = Isa::kReference;
    for (const Isa isa : kIsasWithKernels) {
      if (machine_has(isa)) best = isa;
    }
    return best;
  }
  for (const Isa isa : kIsas) {
    if (isa_name(isa) != wanted) continue;
    if (!machine_has(isa)) {
      return fail(ErrorCode::kUnsupported, "this machine lacks the instruction set '{}'; it has {}",
                  wanted, names_of_present());
    }
    if (!has_kernels(isa)) {
      return fail(ErrorCode::kUnsupported, "Shoal has no kernels for {} yet; use avx2 or reference",
                  wanted);
    }
    return isa;
  }
  return fail(ErrorCode::kInvalidArgument,
              "unknown instruction set '{}'; choose reference, avx2, avx512, amx or neon", wanted);
}

std::vector<int> usable_cores() {
  // Read once, before pools pin threads.
  static const std::vector<int> cores = read_usable_cores();
  return cores;
}

int usable_core_count() {
  return static_cast<int>(usable_cores().size());
}

Status pin_this_thread(int core) {
  if (core < 0 || core >= CPU_SETSIZE) {
    return fail(ErrorCode::kInvalidArgument, "there is no core {} to pin a thread to", core);
  }
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(static_cast<size_t>(core), &mask);
  if (::sched_setaffinity(0, sizeof mask, &mask) != 0) {
    return fail(ErrorCode::kIo, "cannot pin a thread to core {}: {}", core, std::strerror(errno));
  }
  return {};
}

uint64_t memory_total_bytes() {
  return std::min(meminfo_bytes("MemTotal"), cgroup_memory().limit_bytes);
}

uint64_t memory_available_bytes() {
  return std::min(meminfo_bytes("MemAvailable"), cgroup_memory().available_bytes);
}

std::string processor_name() {
  std::string name = brand();
  if (name.empty()) name = board();
  return name.empty() ? "unknown processor" : name;
}

}  // namespace shoal
