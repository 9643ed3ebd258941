#include "kernels/kernel_table.h"

namespace shoal::kernels {

const KernelTable* kernels_for(Isa isa) {
  switch (isa) {
    case Isa::kReference:
      return reference_kernels();
    case Isa::kAvx2:
      return avx2_kernels();
    case Isa::kAvx512:
      return avx512_kernels();
    case Isa::kAmx:
      return amx_kernels();
    case Isa::kNeon:
      return neon_kernels();
  }
  return nullptr;
}

void rotate_head(float* head, int dimensions, bool interleaved, const float* cosines,
                 const float* sines) {
  const int pairs = dimensions / 2;
  const int step = interleaved ? 2 : 1;
  const int distance = interleaved ? 1 : pairs;
  for (int i = 0; i < pairs; ++i) {
    const float a = head[i * step];
    const float b = head[i * step + distance];
    head[i * step] = a * cosines[i] - b * sines[i];
    head[i * step + distance] = a * sines[i] + b * cosines[i];
  }
}

GateKind gate_kind(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return GateKind::kSilu;
    case Activation::kGelu:
      return GateKind::kGeluTanh;
    case Activation::kCappedSilu:
      return GateKind::kCappedSilu;
  }
  return GateKind::kSilu;
}

}  // namespace shoal::kernels
