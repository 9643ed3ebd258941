#!/usr/bin/env python3
"""Writes types/*.blocks and types/*.floats: rows of every quantised type and the very floats that they stand for.

    python3 make_type_golden.py FOLDER      (needs llama.cpp's libggml-base, gguf and numpy)

A row has 256 elements. NAME.blocks holds the rows' bytes, NAME.floats their elements as little-endian binary32.

- Six rows are what llama.cpp's quantiser makes of seeded random numbers: usual ones, ones so small that the scales are
  subnormal, large ones, zeros of both signs, one outlier among small ones, and positive ones.
- Eight rows are random bytes, so that every code and every integer scale appears, with scales that are usual, negative, the
  largest, the smallest, and zeros of both signs.

Floats are those of two implementations that must agree bit for bit: llama.cpp's own (libggml) and the numpy code of gguf.
"""
import ctypes
import pathlib
import sys

import gguf
import numpy
from gguf import quants

COLUMNS = 256
# Offsets of the binary16 scales in a block.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0], "MXFP4": [],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0]}
# Usual, negative, the largest finite, the smallest subnormal, its negative, a subnormal, zero, negative zero.
HALVES = [0x2c5a, 0xac5a, 0x7bff, 0x0001, 0x8001, 0x03ff, 0x0000, 0x8000]


def random_rows(random):
    usual = random.standard_normal((6, COLUMNS))
    usual[1] *= 1e-6
    usual[2] *= 1e4
    usual[3] = numpy.where(usual[3] < 0, -0.0, 0.0)
    usual[4] *= 1e-3
    usual[4, 77] = -3.25
    usual[5] = numpy.abs(usual[5]) + 1
    return usual.astype("<f4")


def main():
    folder = pathlib.Path(sys.argv[1])
    library = ctypes.CDLL("libggml-base.so.0")
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                            ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    for seed, (name, offsets) in enumerate(SCALES.items()):
        random = numpy.random.default_rng(20261122 + seed)
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = COLUMNS // elements * size
        numbers = random_rows(random)
        quantised = numpy.zeros((len(numbers), row_bytes), numpy.uint8)
        library.ggml_quantize_chunk(int(kind), numbers.ctypes.data, quantised.ctypes.data, 0, len(numbers), COLUMNS, None)

        blocks = random.integers(0, 256, (len(HALVES), COLUMNS // elements, size), dtype=numpy.uint8)
        for row, half in enumerate(HALVES):
            for offset in offsets:
                blocks[row, :, offset] = half & 255
                blocks[row, :, offset + 1] = half >> 8
            if name == "MXFP4":  # powers up to what times 12 is finite, the subnormal 0 and 1 among them
                blocks[row, :, 0] = random.integers(0, 253, COLUMNS // elements)
                blocks[row, 0, 0] = row if row < 3 else 252
        rows = numpy.ascontiguousarray(numpy.concatenate([quantised, blocks.reshape(len(HALVES), row_bytes)]))

        floats = quants.dequantize(rows, kind).astype("<f4").reshape(len(rows), COLUMNS)
        theirs = numpy.zeros_like(floats)
        dequantise = getattr(library, "dequantize_row_" + name.lower().replace("_k", "_K"))
        dequantise.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        dequantise.restype = None
        dequantise(rows.ctypes.data, theirs.ctypes.data, theirs.size)
        assert (floats.view("<u4") == theirs.view("<u4")).all(), name
        assert numpy.isfinite(floats).all(), name
        (folder / f"{name}.blocks").write_bytes(rows.tobytes())
        (folder / f"{name}.floats").write_bytes(floats.tobytes())
        print(f"{name}: {len(rows)} rows, {rows.nbytes} bytes, largest {numpy.abs(floats).max():.6g}, "
              f"{int((floats.view('<u4') == 0x80000000).sum())} negative zeros")


main()
