// The float32 screen: keys that order gallery rows by distance up to a proven error, computed in packed tiles.
//
//     key(i, j) = offset_j - 2 q'_i . g'_j            smaller is closer
//
// q' and g' are the rows scaled in float64 and rounded to float32: to unit length for the cosine (offset 0, so that
// key = 2 d - 2), by one power of two for the euclidean (the longest row has length in [0.5, 1), offset = |g'|^2, so
// that key = d'^2 - |q'|^2). The scaling keeps every product in range, and every error below is absolute.
#pragma once

#include <cstddef>
#include <vector>

#include "stcanet/distance.hpp"

namespace stcanet {

constexpr std::size_t kBlockRows = 192;   // query rows per block: a multiple of every tile_rows
constexpr std::size_t kBlockCols = 256;   // gallery rows per block: a multiple of every tile_cols
constexpr std::size_t kBlockDepth = 256;  // length of one float32 chain; short chains keep the error bound small

class Screen {
  public:
    Screen(Features query, Features gallery, Metric metric, Options options);

    // |key as computed - key in exact arithmetic| <= error, for every pair.
    double error = 0.0;
    // If the float32 distance of a is not above that of b, then exact key(a) <= exact key(b) + tie.
    double tie = 0.0;

    // The exact key of a pair at float64 distance d, for query i.
    double key_of(std::size_t i, double d) const;
    // The distance of a pair with this (approximate) key, for query i; not refined, not clamped below.
    double squared_gap(std::size_t i, double key) const;
    double distance_of_gap(double gap) const;

    // The definition, rounded to float32.
    float exact(std::size_t i, std::size_t j) const;

    Features query, gallery;
    Metric metric;
    const Kernels& kernels;

  private:
    friend class KeyBlock;
    std::vector<double> q_sq_, g_sq_;        // squared lengths, fixed order
    std::vector<double> q_scale_, g_scale_;  // row i of q' is float(q_i * q_scale_i)
    std::vector<float> offset_;              // [G]
    double unit_ = 1.0;                      // euclidean: the common power of two
};

// The keys of one block of query rows against one block of gallery rows, and the buffers for them; one per thread.
class KeyBlock {
  public:
    // Packs query rows [first, first + rows), rows <= kBlockRows, for use with any number of gallery blocks.
    KeyBlock(const Screen& screen, std::size_t first, std::size_t rows);

    // Computes the keys of gallery rows [first, first + cols), cols <= kBlockCols.
    void compute(std::size_t first, std::size_t cols);

    // Keys of the query row `first + i` of this block: as many as columns were asked for.
    const float* row(std::size_t i) const { return keys_.data() + i * kBlockCols; }

  private:
    const Screen& screen_;
    std::size_t rows_;
    std::vector<float> packed_query_;    // per depth block: tiles of [depth, MR], holding -2 q'
    std::vector<float> packed_gallery_;  // one depth block: tiles of [depth, NR], holding g'
    std::vector<float> keys_;            // [kBlockRows, kBlockCols]
};

}  // namespace stcanet
