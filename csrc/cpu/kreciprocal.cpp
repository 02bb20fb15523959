#include "stcanet/kreciprocal.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "overlap.hpp"
#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kChunk = 64;  // rows of a unit of work

using Ids = std::vector<std::int32_t>;
using Entries = std::vector<std::pair<std::int32_t, float>>;

bool contains(const std::int32_t* list, std::size_t n, std::int32_t id) {
    // Without an early exit: a few vector comparisons are faster than a branch for each element.
    int found = 0;
    for (std::size_t r = 0; r < n; ++r) found |= list[r] == id ? 1 : 0;
    return found != 0;
}

// Those among the first k of row i that have i among their own first k, nearest first.
void reciprocal(Lists neighbours, std::size_t i, std::size_t k, Ids& out) {
    out.clear();
    for (std::size_t r = 0; r < k; ++r) {
        const std::int32_t other = neighbours.row(i)[r];
        if (contains(neighbours.row(static_cast<std::size_t>(other)), k, static_cast<std::int32_t>(i)))
            out.push_back(other);
    }
}

// The expanded set of one row after the other. A byte for every row says whether it is a member, and of which kind, so
// that asking takes one step, however long the lists are.
class ExpandedSet {
  public:
    // Ascending; `halves` are the sets that may join.
    const Ids& gather(Lists neighbours, const std::vector<Ids>& halves, std::size_t i) {
        for (const std::int32_t id : members_) mark(id) = kOutside;
        members_.clear();
        if (marks_.size() < neighbours.rows) marks_.resize(neighbours.rows, kOutside);
        reciprocal(neighbours, i, neighbours.cols, members_);
        for (const std::int32_t id : members_) mark(id) = kOriginal;
        const std::size_t originals = members_.size();
        for (std::size_t c = 0; c < originals; ++c) {
            const Ids& set = halves[static_cast<std::size_t>(members_[c])];
            const auto shared =
                std::count_if(set.begin(), set.end(), [&](std::int32_t id) { return mark(id) == kOriginal; });
            if (3 * shared > 2 * static_cast<std::ptrdiff_t>(set.size())) unite(set);
        }
        if (members_.empty()) members_.push_back(static_cast<std::int32_t>(i));  // more than k copies: not even itself
        std::sort(members_.begin(), members_.end());
        members_.erase(std::unique(members_.begin(), members_.end()), members_.end());  // of a list with repetitions
        return members_;
    }

  private:
    enum Mark : std::uint8_t { kOutside, kOriginal, kJoined };

    Mark& mark(std::int32_t id) { return marks_[static_cast<std::size_t>(id)]; }

    void unite(const Ids& set) {
        for (const std::int32_t id : set) {
            if (mark(id) != kOutside) continue;
            members_.push_back(id);
            mark(id) = kJoined;
        }
    }

    std::vector<Mark> marks_;  // kOutside but for members
    Ids members_;
};

// Puts rows together that were made in chunks, in any order.
SparseRows join(std::size_t rows, std::size_t threads, bool with_values, const Watch& watch,
                const std::function<void(std::size_t row, Entries& out)>& make_row) {
    std::vector<Entries> entries((rows + kChunk - 1) / kChunk);
    SparseRows result;
    result.start.assign(rows + 1, 0);
    const auto make_rows = [&](std::size_t begin, std::size_t end) {
        Entries& chunk = entries[begin / kChunk];
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t before = chunk.size();
            make_row(i, chunk);
            result.start[i + 1] = static_cast<std::int64_t>(chunk.size() - before);
        }
    };
    parallel_ranges(rows, kChunk, threads, make_rows, watch);
    for (std::size_t i = 0; i < rows; ++i) result.start[i + 1] += result.start[i];
    result.indices.reserve(static_cast<std::size_t>(result.start[rows]));
    if (with_values) result.values.reserve(static_cast<std::size_t>(result.start[rows]));
    for (Entries& chunk : entries) {
        for (const auto& [index, value] : chunk) {
            result.indices.push_back(index);
            if (with_values) result.values.push_back(value);
        }
        chunk = {};
    }
    return result;
}

}  // namespace

SparseRows expand(Lists neighbours, std::size_t half, std::size_t threads, const Watch& watch) {
    const std::size_t n = neighbours.rows, k = neighbours.cols, small = std::min(half + 1, k);
    std::vector<Ids> halves(n);
    const auto halve = [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) reciprocal(neighbours, i, small, halves[i]);
    };
    parallel_ranges(n, kChunk, threads, halve, watch);
    return join(n, threads, false, watch, [&](std::size_t i, Entries& out) {
        thread_local ExpandedSet set;
        for (const std::int32_t id : set.gather(neighbours, halves, i)) out.emplace_back(id, 0.0F);
    });
}

SparseRows average(SparseView rows, Lists neighbours, std::size_t threads, const Watch& watch) {
    return join(neighbours.rows, threads, true, watch, [&](std::size_t i, Entries& out) {
        Entries gathered;
        for (std::size_t r = 0; r < neighbours.cols; ++r) {
            const auto j = static_cast<std::size_t>(neighbours.row(i)[r]);
            for (auto e = rows.start[j]; e < rows.start[j + 1]; ++e)
                gathered.emplace_back(rows.indices[e], rows.values[e]);
        }
        // Stable: the values of a column are added in the order of the neighbours.
        std::stable_sort(gathered.begin(), gathered.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        for (std::size_t e = 0; e < gathered.size();) {
            const std::int32_t column = gathered[e].first;
            double sum = 0.0;
            for (; e < gathered.size() && gathered[e].first == column; ++e) sum += gathered[e].second;
            out.emplace_back(column, static_cast<float>(sum / static_cast<double>(neighbours.cols)));
        }
    });
}

SparseRows overlaps(SparseView rows, std::size_t num_query, std::size_t first, std::size_t last, std::size_t threads,
                    const Watch& watch) {
    const GalleryColumns columns(rows, num_query);
    return join(last - first, threads, true, watch, [&](std::size_t offset, Entries& out) {
        thread_local OverlapSums sums;
        sums.gather(rows, columns, first + offset);
        Ids touched = sums.touched();
        std::sort(touched.begin(), touched.end());
        for (const std::int32_t g : touched) out.emplace_back(g, sums[g]);
    });
}

void blend(Matrix<float> distances, SparseView overlap, const float* farthest, int power, double lambda,
           std::size_t threads, const Watch& watch) {
    const std::size_t cols = distances.cols;
    const auto blend_rows = [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            float* row = distances.row(i);
            // Divided by, and not multiplied with its inverse, which may overflow. x / infinity is 0.
            const float largest = farthest[i] > 0.0F ? farthest[i] : std::numeric_limits<float>::infinity();
            const auto share = static_cast<float>(lambda), rest = static_cast<float>(1.0 - lambda);
            for (std::size_t j = 0; j < cols; ++j) {
                // Distances are those of float32 products, and may be above the farthest by their error.
                const float x = std::min(row[j] / largest, 1.0F), square = x * x;
                row[j] = rest + share * (power == 1 ? x : power == 2 ? square : square * square);
            }
            for (auto e = overlap.start[i]; e < overlap.start[i + 1]; ++e) {
                const float m = overlap.values[e];
                row[overlap.indices[e]] -= rest * (m / (2.0F - m));
            }
        }
    };
    parallel_ranges(distances.rows, 16, threads, blend_rows, watch);
}

}  // namespace stcanet
