#include "stcanet/ranks.hpp"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kChunk = 2048;                 // values whose keys are in the first-level cache at a time
constexpr std::size_t kUnit = std::size_t{1} << 19;  // distances of a unit of work

const Counting<float, std::int32_t>& counting(const Kernels& kernels, float) { return kernels.of_float; }
const Counting<double, std::int64_t>& counting(const Kernels& kernels, double) { return kernels.of_double; }

// The matches of one query as thresholds, and how many values come before each.
template <typename Real, typename Key>
class Row {
  public:
    explicit Row(const Counting<Real, Key>& counting)
        : counting_(counting), gathered_(kChunk), keys_(kChunk), near_(kChunk + kKeyPadding) {}

    // Sorts the matches by (distance, index). Returns false when a distance is NaN.
    bool set_matches(const Real* row, const std::int64_t* indices, std::size_t n) {
        thresholds_.clear();
        for (std::size_t first = 0; first < n; first += kChunk) {
            const auto [size, nan] = gather(row, indices + first, n - first);
            if (nan) return false;
            for (std::size_t k = 0; k < size; ++k) thresholds_.emplace_back(keys_[k], indices[first + k]);
        }
        std::sort(thresholds_.begin(), thresholds_.end());
        levels_.resize(n);
        return true;
    }

    // Adds to counts how many of all n values come before each threshold. Returns false when a value is NaN.
    bool count_all(const Real* row, std::size_t n, std::int64_t* counts) {
        for (std::size_t first = 0; first < n; first += kChunk) {
            const std::size_t size = std::min(kChunk, n - first);
            if (counting_.order(row + first, size, keys_.data())) return false;
            count_keys(size, true, counts,
                       [&](std::int64_t index) { return index - static_cast<std::int64_t>(first); });
        }
        return true;
    }

    // Adds how many of the values at these ascending indices do.
    void count_listed(const Real* row, const std::int64_t* indices, std::size_t n, std::int64_t* counts) {
        for (std::size_t first = 0; first < n; first += kChunk) {
            const std::int64_t* begin = indices + first;
            const std::size_t size = gather(row, begin, n - first).first;
            count_keys(size, false, counts,
                       [&](std::int64_t index) { return std::lower_bound(begin, begin + size, index) - begin; });
        }
    }

  private:
    // The keys of at most a chunk of values: how many, and whether any is NaN.
    std::pair<std::size_t, bool> gather(const Real* row, const std::int64_t* indices, std::size_t n) {
        const std::size_t size = std::min(kChunk, n);
        for (std::size_t k = 0; k < size; ++k) gathered_[k] = row[indices[k]];
        return {size, counting_.order(gathered_.data(), size, keys_.data())};
    }

    // Counts n keys. place_of(index) is the number of those that come before the gallery index; it may lie outside.
    // With `own` the matches are among the keys, each of them equal to itself.
    template <typename PlaceOf>
    void count_keys(std::size_t n, bool own, std::int64_t* counts, PlaceOf place_of) {
        if (thresholds_.empty()) return;
        const std::size_t near = counting_.below(keys_.data(), n, thresholds_.back().first + 1, near_.data());
        if (near == 0) return;
        for (std::size_t k = 0; k < thresholds_.size(); ++k) {
            const auto& [level, index] = thresholds_[k];
            const std::int64_t place = place_of(index);
            const bool behind = place >= static_cast<std::int64_t>(n);
            levels_[k] = level + (behind ? 1 : 0);  // then equal keys come before it, too
            if (place > 0 && !behind && counting_.equal(near_.data(), near, level) > (own ? 1 : 0))
                counts[k] += counting_.equal(keys_.data(), static_cast<std::size_t>(place), level);
        }
        counting_.count(near_.data(), near, levels_.data(), levels_.size(), counts);
    }

    const Counting<Real, Key>& counting_;
    std::vector<Real> gathered_;
    std::vector<Key> keys_, near_;
    std::vector<std::pair<Key, std::int64_t>> thresholds_;
    std::vector<Key> levels_;
};

template <typename Real, typename Key>
bool rank_rows(Matrix<const Real> distances, std::size_t begin, std::size_t end, const Truth& truth,
               const Counting<Real, Key>& counting, std::int64_t* ranks) {
    Row<Real, Key> row(counting);
    std::vector<std::int64_t> invisible;
    for (std::size_t i = begin; i < end; ++i) {
        const Real* values = distances.row(i);
        const IndexLists &matches = truth.matches, &hidden = truth.hidden;
        const auto n = static_cast<std::size_t>(matches.start[i + 1] - matches.start[i]);
        std::int64_t* out = ranks + matches.start[i];
        std::fill_n(out, n, 1);
        if (!row.set_matches(values, matches.indices + matches.start[i], n)) return false;
        if (!row.count_all(values, distances.cols, out)) return false;
        invisible.assign(n, 0);
        row.count_listed(values, hidden.indices + hidden.start[i],
                         static_cast<std::size_t>(hidden.start[i + 1] - hidden.start[i]), invisible.data());
        row.count_listed(values, truth.junk, truth.num_junk, invisible.data());
        for (std::size_t k = 0; k < n; ++k) out[k] -= invisible[k];
    }
    return true;
}

}  // namespace

template <typename Real>
bool ranks(Matrix<const Real> distances, const Truth& truth, Options options, std::int64_t* ranks, const Watch& watch) {
    const std::size_t rows = std::max<std::size_t>(1, kUnit / std::max<std::size_t>(1, distances.cols));
    std::atomic<bool> sound{true};
    const auto rank = [&](std::size_t begin, std::size_t end) {
        if (!rank_rows(distances, begin, end, truth, counting(*options.kernels, Real{}), ranks)) sound = false;
    };
    parallel_ranges(distances.rows, rows, options.threads, rank, watch);
    return sound;
}

template bool ranks(Matrix<const float>, const Truth&, Options, std::int64_t*, const Watch&);
template bool ranks(Matrix<const double>, const Truth&, Options, std::int64_t*, const Watch&);

}  // namespace stcanet
