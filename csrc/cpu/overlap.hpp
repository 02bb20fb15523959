// Overlaps of a query with the gallery, from the columns that they share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "stcanet/kreciprocal.hpp"

namespace stcanet {

// By column: which gallery rows have it, ascending, and with which value.
struct GalleryColumns {
    GalleryColumns(SparseView rows, std::size_t num_query) : gallery(rows.rows - num_query), start(rows.rows + 1, 0) {
        const auto begin = static_cast<std::size_t>(rows.start[num_query]);
        const auto end = static_cast<std::size_t>(rows.start[rows.rows]);
        for (std::size_t e = begin; e < end; ++e) ++start[static_cast<std::size_t>(rows.indices[e]) + 1];
        for (std::size_t c = 0; c < rows.rows; ++c) start[c + 1] += start[c];
        entries.resize(end - begin);
        std::vector<std::size_t> next(start.begin(), start.end() - 1);
        for (std::size_t g = num_query; g < rows.rows; ++g)
            for (auto e = static_cast<std::size_t>(rows.start[g]); e < static_cast<std::size_t>(rows.start[g + 1]); ++e)
                entries[next[static_cast<std::size_t>(rows.indices[e])]++] = {static_cast<std::int32_t>(g - num_query),
                                                                              rows.values[e]};
    }

    std::size_t gallery;
    std::vector<std::size_t> start;
    std::vector<std::pair<std::int32_t, float>> entries;
};

// Sums of minima of one query after the other: float64, in ascending columns, rounded once, so that every backend has
// the same bits.
class OverlapSums {
  public:
    void gather(SparseView rows, const GalleryColumns& columns, std::size_t q) {
        for (const std::int32_t g : touched_) sums_[static_cast<std::size_t>(g)] = 0.0;
        touched_.clear();
        if (sums_.size() < columns.gallery) sums_.resize(columns.gallery, 0.0);
        for (auto e = rows.start[q]; e < rows.start[q + 1]; ++e) {
            const auto column = static_cast<std::size_t>(rows.indices[e]);
            for (std::size_t f = columns.start[column]; f < columns.start[column + 1]; ++f)
                add(columns.entries[f].first, std::min(rows.values[e], columns.entries[f].second));
        }
    }

    // Gallery rows with a sum, in no order.
    const std::vector<std::int32_t>& touched() const { return touched_; }
    float operator[](std::int64_t g) const { return static_cast<float>(sums_[static_cast<std::size_t>(g)]); }

    // The sum, which is 0 from now on.
    float take(std::int64_t g) {
        const float sum = (*this)[g];
        sums_[static_cast<std::size_t>(g)] = 0.0;
        return sum;
    }

  private:
    void add(std::int32_t g, float shared) {
        if (shared == 0.0F) return;
        double& sum = sums_[static_cast<std::size_t>(g)];
        if (sum == 0.0) touched_.push_back(g);
        sum += static_cast<double>(shared);
    }

    std::vector<double> sums_;  // zero but for what is touched
    std::vector<std::int32_t> touched_;
};

}  // namespace stcanet
