// One body, attention.inc, compiled for each instruction set; the CPU says at run time which it has.

#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

struct Powers {
  alignas(ALIGNMENT) uint32_t of_two[MOST_BITS];
};

constexpr Powers powers() {
  Powers made{};
  for (size_t bit = 0; bit < MOST_BITS; ++bit) made.of_two[bit] = 1u << bit;
  return made;
}

constexpr Powers POWERS = powers();

}  // namespace

// LANES floats make a vector of the set, and TILE tokens at a time keep its registers busy.

#if defined(__x86_64__) && !defined(ATTAR_NATIVE_PORTABLE)

namespace v4 {
#define TARGET __attribute__((target("arch=x86-64-v4")))
#define LANES 16
#define TILE 8
#include "attention.inc"
#undef TARGET
#undef LANES
#undef TILE
}  // namespace v4

namespace v3 {
#define TARGET __attribute__((target("arch=x86-64-v3")))
#define LANES 8
#define TILE 4
#include "attention.inc"
#undef TARGET
#undef LANES
#undef TILE
}  // namespace v3

#endif

// What the compiler takes for granted: SSE2 on x86-64, NEON on ARM64.
namespace portable {
#define TARGET
#define LANES 4
#define TILE 4
#include "attention.inc"
}  // namespace portable

Attention::Attention(size_t heads, size_t depth, size_t anchors, size_t bits, float beta,
                     const float* anchor, const float* mean, const float* hash, const float* sigma)
    : heads(heads),
      depth(depth),
      anchors(anchors),
      bits(bits),
      beta(beta),
      fixed_sigma(sigma != nullptr),
      directions(heads * depth * padded_anchors()),
      middles(heads * depth),
      means(heads * padded_anchors()),
      hashes(heads * anchors * padded_bits()),
      sigmas(heads) {
  for (size_t row = 0; row < heads * depth; ++row) {
    float sum = 0;
    for (size_t j = 0; j < anchors; ++j) sum += anchor[row * anchors + j];
    *middles.at(row) = sum / static_cast<float>(anchors);
    std::copy_n(anchor + row * anchors, anchors, directions.at(row * padded_anchors()));
  }
  for (size_t head = 0; head < heads; ++head) {
    std::copy_n(mean + head * anchors, anchors, means.at(head * padded_anchors()));
    if (sigma) *sigmas.at(head) = sigma[head];
  }
  for (size_t row = 0; row < heads * anchors; ++row)
    std::copy_n(hash + row * bits, bits, hashes.at(row * padded_bits()));
}

const Passes& passes() {
#if defined(__x86_64__) && !defined(ATTAR_NATIVE_PORTABLE)
  static const bool has_v4 = __builtin_cpu_supports("x86-64-v4");
  static const bool has_v3 = __builtin_cpu_supports("x86-64-v3");
  if (has_v4) return v4::PASSES;
  if (has_v3) return v3::PASSES;
#endif
  return portable::PASSES;
}
