// The tiles of AMX in plain C++, as Intel's manual describes them (Software Developer's Manual
// volume 2, LDTILECFG, TILELOADD, TILESTORED, TDPBSSD and TDPBUSD), for tests of what is computed
// with them on machines that have none. What the processor would refuse ends the program.
//
// Only for files that compute with vectors; instantiates no library templates (kernel_table.h).
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/amx_panels.h"

namespace shoal::kernels {
namespace {

struct EmulatedTiles {
  struct Tile {
    int rows, row_bytes;
    uint8_t bytes[16][64];
  };
  struct State {
    bool configured;
    Tile tiles[8];
  };
  static State& state() {
    static thread_local State state;
    return state;
  }
  static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "a processor would refuse this use of tiles: %s\n", what);
    std::abort();
  }
  static Tile& tile(int number) {
    require(state().configured, "not configured");
    Tile& tile = state().tiles[number];
    require(tile.rows > 0, "a tile without rows");
    return tile;
  }

  static void configure(const TileShapes& shapes) {
    uint8_t raw[64];
    std::memcpy(raw, &shapes, sizeof raw);
    require(raw[0] == 1 && raw[1] == 0, "palette and start row");
    for (int i = 2; i < 16; ++i) require(raw[i] == 0, "reserved bytes");
    for (int i = 32; i < 48; ++i) require(raw[i] == 0, "reserved bytes of palette 1");
    for (int i = 56; i < 64; ++i) require(raw[i] == 0, "reserved bytes of palette 1");
    std::memset(&state(), 0, sizeof(State));
    for (int i = 0; i < 8; ++i) {
      Tile& tile = state().tiles[i];
      tile.row_bytes = raw[16 + 2 * i] | raw[17 + 2 * i] << 8;
      tile.rows = raw[48 + i];
      require(tile.row_bytes <= 64 && tile.row_bytes % 4 == 0 && tile.rows <= 16, "shape");
      require((tile.rows == 0) == (tile.row_bytes == 0), "an empty shape");
    }
    state().configured = true;
  }
  static void release() { std::memset(&state(), 0, sizeof(State)); }

  template <int kTile>
  static void zero() {
    std::memset(tile(kTile).bytes, 0, sizeof(Tile::bytes));
  }
  template <int kTile>
  static void load(const void* bytes, int64_t stride) {
    Tile& to = tile(kTile);
    std::memset(to.bytes, 0, sizeof to.bytes);
    for (int r = 0; r < to.rows; ++r) {
      std::memcpy(to.bytes[r], static_cast<const uint8_t*>(bytes) + r * stride,
                  static_cast<size_t>(to.row_bytes));
    }
  }
  template <int kTile>
  static void store(void* bytes, int64_t stride) {
    const Tile& from = tile(kTile);
    for (int r = 0; r < from.rows; ++r) {
      std::memcpy(static_cast<uint8_t*>(bytes) + r * stride, from.bytes[r],
                  static_cast<size_t>(from.row_bytes));
    }
  }
  template <int kSum, int kA, int kB>
  static void dot_signed() {
    dot<kSum, kA, kB, int8_t>();
  }
  template <int kSum, int kA, int kB>
  static void dot_unsigned() {
    dot<kSum, kA, kB, uint8_t>();
  }

 private:
  template <int kSum, int kA, int kB, class A>
  static void dot() {
    static_assert(kSum != kA && kSum != kB && kA != kB);
    Tile& sums = tile(kSum);
    const Tile &a = tile(kA), &b = tile(kB);
    require(sums.rows == a.rows && sums.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows,
            "shapes that do not fit");
    for (int m = 0; m < sums.rows; ++m) {
      uint32_t sum[16];  // wrap around
      std::memcpy(sum, sums.bytes[m], sizeof sum);
      for (int k = 0; k < b.rows; ++k) {
        const uint8_t* x = a.bytes[m] + 4 * k;
        for (int n = 0; n < sums.row_bytes / 4; ++n) {
          for (int i = 0; i < 4; ++i) {
            const int product = static_cast<A>(x[i]) * static_cast<int8_t>(b.bytes[k][4 * n + i]);
            sum[n] += static_cast<uint32_t>(product);
          }
        }
      }
      std::memcpy(sums.bytes[m], sum, sizeof sum);
    }
    for (int m = sums.rows; m < 16; ++m) std::memset(sums.bytes[m], 0, 64);
  }
};

}  // namespace
}  // namespace shoal::kernels
