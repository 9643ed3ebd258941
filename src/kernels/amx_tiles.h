// The tiles of AMX as amx_panels.h wants them. Only for files compiled for AVX-512 and threads of a
// process that may use tiles (machine_has(Isa::kAmx)).
//
// By the assembler's names instead of the compiler's intrinsics: those of g++ 12 take the number of
// a tile as a bare literal and do not say that loading one reads memory.
#pragma once

#include <cstdint>

#include "kernels/amx_panels.h"

namespace shoal::kernels {
namespace {

struct AmxTiles {
  static void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  static void release() { asm volatile("tilerelease"); }
  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static void load(const void* bytes, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(bytes), "r"(stride), "i"(kTile)
                 : "memory");
  }
  template <int kTile>
  static void store(void* bytes, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(bytes), "r"(stride), "i"(kTile)
                 : "memory");
  }
  template <int kSum, int kA, int kB>
  static void dot_signed() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
  template <int kSum, int kA, int kB>
  static void dot_unsigned() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace shoal::kernels
