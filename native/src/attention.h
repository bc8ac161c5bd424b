// Attention between binary codes in O(tokens), in EcoFormer's normalised form (arXiv:2209.09004).
//
// A token's code has one bit a hash function: the sign of a projection of its Gaussian kernel
// values against some anchors. With h in {-1, +1}^bits,
//
//     o_i = (h_i . sum_j h_j v_j^T + beta sum_j v_j) / (h_i . sum_j h_j + n beta).
//
// Neither product is multiplied out. Codes are packed, and cut into nibbles: a first pass adds each
// value to one of 16 buckets for each nibble, from which follow the sums by bit; then 16 sums of
// those are tabled for each nibble, and a second pass adds up what a token's nibbles point to.
// These are the same sums, so with whole values small enough for a float they are exact.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

constexpr size_t NIBBLE = 4, BUCKETS = 16, MOST_BITS = 32;
constexpr size_t BLOCK = 512;  // tokens that one thread takes; sums do not depend on who takes them
constexpr size_t ALIGNMENT = 64;  // bytes of the widest vector
constexpr size_t PADDING = 32;  // anchors are padded to a multiple of it, whatever the vectors

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t(ALIGNMENT)); }
};

// An array that vectors can be read from, its numbers zero.
template <typename Number>
class Array {
 public:
  explicit Array(size_t size)
      : numbers_(static_cast<Number*>(
            ::operator new(size * sizeof(Number), std::align_val_t(ALIGNMENT)))) {
    for (size_t i = 0; i < size; ++i) numbers_.get()[i] = Number{};
  }
  Number* at(size_t place) const { return numbers_.get() + place; }

 private:
  std::unique_ptr<Number, Free> numbers_;
};

// What a node has learned, packed for the passes.
struct Attention {
  size_t heads, depth, anchors, bits;
  float beta;
  bool fixed_sigma;         // else each row's own: the mean distance of its tokens to the anchors
  Array<float> directions;  // (heads, depth, padded anchors)
  Array<float> middles;     // (heads, depth): the mean anchor
  Array<float> means;       // (heads, padded anchors): of the kernel values
  Array<float> hashes;      // (heads, anchors, padded bits)
  Array<float> sigmas;      // (heads,), if fixed

  // Packs anchors (heads, depth, anchors), mean (heads, anchors), hash (heads, anchors, bits) and
  // sigma (heads,), which may be null.
  Attention(size_t heads, size_t depth, size_t anchors, size_t bits, float beta,
            const float* anchor, const float* mean, const float* hash, const float* sigma);

  size_t groups() const { return (bits + NIBBLE - 1) / NIBBLE; }
  uint32_t code() const { return bits < MOST_BITS ? (1u << bits) - 1 : ~0u; }  // every bit set
  size_t padded_anchors() const { return (anchors + PADDING - 1) / PADDING * PADDING; }
  size_t padded_bits() const { return bits <= MOST_BITS / 2 ? MOST_BITS / 2 : MOST_BITS; }
};

// One batch: what comes in and goes out, and what the passes leave for one another.
struct Batch {
  size_t rows, tokens;
  const float* query_key;  // (rows, tokens, heads * depth), likewise values and out
  const float* values;
  const bool* real;  // (rows, tokens), or null where all are
  float* out;
  Array<uint32_t> codes;   // (rows, heads, tokens)
  Array<float> buckets;    // (rows, heads, blocks, groups, 16, depth)
  Array<uint32_t> counts;  // (rows, heads, blocks, groups, 16)
  Array<float> weights;    // (rows, heads, groups, 16): the denominator's table
  Array<float> sigmas;     // (rows, heads)
  Array<float> scratch;    // (rows, heads, 1 + 4, depth): nothing is allocated in a pass

  Batch(const Attention& a, size_t rows, size_t tokens)
      : rows(rows),
        tokens(tokens),
        codes(rows * a.heads * tokens),
        buckets(rows * a.heads * blocks() * a.groups() * BUCKETS * a.depth),
        counts(rows * a.heads * blocks() * a.groups() * BUCKETS),
        weights(rows * a.heads * a.groups() * BUCKETS),
        sigmas(rows * a.heads),
        scratch(rows * a.heads * (1 + NIBBLE) * a.depth) {}

  size_t blocks() const { return (tokens + BLOCK - 1) / BLOCK; }
};

// The passes, each to be run for every one of its places before the next. A place is a row and
// head, counted with heads last; where blocks are told apart they come after these.
struct Passes {
  void (*bandwidth)(const Attention&, const Batch&, size_t place);  // rows x heads
  void (*hash)(const Attention&, const Batch&, size_t place);       // rows x heads x blocks
  void (*table)(const Attention&, const Batch&, size_t place);      // rows x heads
  void (*mix)(const Attention&, const Batch&, size_t place);        // rows x heads x blocks
};

// The passes compiled for the best instruction set that this CPU has.
const Passes& passes();
