// The float32 screen: keys that order rows by distance up to a proven error.
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

constexpr std::size_t kDepth = 128;  // length of one float32 chain; short chains keep the error bound small

// The rows of one side, and what turns them into q' or g'.
struct Side {
    Features rows;
    std::vector<double> squared;  // squared lengths, fixed order
    std::vector<double> scale;    // row i of q' is float(row i * scale_i)
    std::vector<float> offset;
};

class Screen {
  public:
    Screen(Features query, Features gallery, Metric metric, Options options);
    Screen(Features all, Metric metric, Options options);  // every row against every row

    const Side& query() const { return query_; }
    const Side& gallery() const { return symmetric_ ? query_ : gallery_; }
    bool symmetric() const { return symmetric_; }

    // |key as computed - key in exact arithmetic| <= error, for every pair.
    double error = 0.0;
    // If the float32 distance of a is not above that of b, then exact key(a) <= exact key(b) + tie.
    double tie = 0.0;

    // The exact key of a pair at float64 distance d, for query i.
    double key_of(std::size_t i, double d) const;

    // The definition, rounded to float32.
    float exact(std::size_t i, std::size_t j) const;

    // Distances of query i to gallery rows [first, first + n) from their products q' . g'.
    void distances(std::size_t i, std::size_t first, std::size_t n, const float* dots, float* out) const;

    const Metric metric;
    const Options options;

  private:
    void measure_lengths(Side& side);
    void scale_rows();

    Side query_, gallery_;
    bool symmetric_;
    double unit_ = 1.0;  // euclidean: the common power of two
};

}  // namespace stcanet
