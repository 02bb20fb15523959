// The screen: keys that order rows by distance up to a proven error.
//
//     key(i, j) = offset_j - 2 q'_i . g'_j            smaller is closer
//
// q' and g' are the rows, for the cosine first brought to unit length, seen from one centre, scaled by one power of two
// so that the longest has a length in (0.5, 1], and rounded as the product wants them; offset = |g'|^2, so that
// key = |q' - g'|^2 - |q'|^2. The scaling keeps every product in range, and every error below is absolute. The centre
// is zero, unless all rows lie so close together that what they have in common is most of their length.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "stcanet/distance.hpp"
#include "stcanet/parallel.hpp"

namespace stcanet {

// The rows of one side, and what turns them into q' or g'.
struct Side {
    Features rows;
    std::vector<double> squared;  // squared lengths, fixed order
    std::vector<double> scale;    // row i of q' is row i * scale_i - centre, rounded
    std::vector<double> length;   // squared lengths of q'
    std::vector<float> offset;    // the same, rounded
};

class Screen {
  public:
    // Reads all rows once or twice; `watch` is told in between.
    Screen(Features query, Features gallery, Metric metric, Options options, const Product& product,
           const Watch& watch = {});
    // Every row against every row.
    Screen(Features all, Metric metric, Options options, const Product& product, const Watch& watch = {});

    const Side& query() const { return query_; }
    const Side& gallery() const { return symmetric_ ? query_ : gallery_; }
    // [D], and zeros for columns that fill up a slice.
    const double* centre() const { return centre_.data(); }
    bool symmetric() const { return symmetric_; }

    // |key as computed - key in exact arithmetic| <= error, for every pair; computed with `product` or the accurate
    // one.
    double error = 0.0;
    // If the float32 distance of a is not above that of b, then exact key(a) <= exact key(b) + tie.
    double tie = 0.0;

    // The exact key of a pair at float64 distance d, for query i.
    double key_of(std::size_t i, double d) const;

    // The definition, rounded to float32.
    float exact(std::size_t i, std::size_t j) const;
    // How often `exact` was called.
    std::size_t measured() const { return measured_.load(std::memory_order_relaxed); }

    // Distances of query i to gallery rows [first, first + n) from their products q' . g'.
    void distances(std::size_t i, std::size_t first, std::size_t n, const float* dots, float* out) const;

    const Metric metric;
    const Options options;
    const Product& product;

  private:
    template <typename Visit>
    void visit_rows(const Side& side, const Watch& watch, const Visit& visit) const;
    void scale_rows(const Watch& watch);
    double centre_rows(double longest, const Watch& watch);  // returns the longest squared length that is left
    std::vector<double> mean_of_some() const;

    Side query_, gallery_;
    bool symmetric_;
    double unit_ = 1.0;  // the common power of two
    std::vector<double> centre_;
    alignas(64) mutable std::atomic<std::size_t> measured_{0};  // apart from what all threads read
};

}  // namespace stcanet
