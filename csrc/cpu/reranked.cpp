#include "stcanet/reranked.hpp"

#include <algorithm>
#include <vector>

#include "overlap.hpp"
#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kChunk = 16;  // queries of a unit of work

// One query after the other.
class Selector {
  public:
    Selector(const Screen& screen, SparseView rows, const GalleryColumns& columns, const float* farthest, int power,
             double lambda, const GalleryLists& lists)
        : screen_(screen),
          rows_(rows),
          columns_(columns),
          farthest_(farthest),
          power_(power),
          lambda_(lambda),
          lists_(lists) {}

    void select(std::size_t q, Smallest& best) {
        const std::size_t length = lists_.distances.cols;
        const float* near = lists_.distances.row(q);
        const std::int64_t* listed = lists_.indices.row(q);
        sums_.gather(rows_, columns_, q);
        std::size_t l = 0;
        for (; l < length && listed[l] >= 0; ++l) best.offer({final(q, sums_.take(listed[l]), near[l]), id(listed[l])});
        if (l < length || length == columns_.gallery) return;  // all that is visible is listed
        add_touched(q, near[length - 1], best);
        if (final(q, 0.0F, near[length - 1]) <= best.limit()) select_row(q, best);
    }

  private:
    static std::int32_t id(std::int64_t g) { return static_cast<std::int32_t>(g); }

    // Those that overlap and are not listed, the most promising first; `last` is the least distance they can have.
    void add_touched(std::size_t q, float last, Smallest& best) {
        bounds_.clear();
        for (const std::int32_t g : sums_.touched())
            if (sums_[g] > 0.0F && !lists_.groups.hides(q, static_cast<std::size_t>(g)))
                bounds_.push_back({final(q, sums_[g], last), g});
        std::sort(bounds_.begin(), bounds_.end());
        for (const Hit& bound : bounds_) {
            if (bound.value > best.limit()) break;
            best.offer({final(q, sums_[bound.index], measured(q, bound.index)), bound.index});
        }
    }

    void select_row(std::size_t q, Smallest& best) {
        sums_.gather(rows_, columns_, q);
        best.clear();
        for (std::size_t g = 0; g < columns_.gallery; ++g)
            if (!lists_.groups.hides(q, g))
                best.offer({final(q, sums_[static_cast<std::int64_t>(g)], measured(q, static_cast<std::int32_t>(g))),
                            static_cast<std::int32_t>(g)});
    }

    // Of lambda 0 plain distances count for nothing.
    float measured(std::size_t q, std::int32_t g) const {
        return lambda_ == 0.0 ? 0.0F : screen_.exact(q, static_cast<std::size_t>(g));
    }

    // Never falls when the distance grows: squares instead of pow().
    float final(std::size_t q, float overlap, float distance) const {
        const double m = overlap, farthest = farthest_[q];
        double relative = farthest > 0.0 ? distance / farthest : 0.0;
        for (int p = power_; p > 1; p /= 2) relative *= relative;
        return static_cast<float>((1.0 - lambda_) * (1.0 - m / (2.0 - m)) + lambda_ * relative);
    }

    const Screen& screen_;
    const SparseView rows_;
    const GalleryColumns& columns_;
    const float* farthest_;
    const int power_;
    const double lambda_;
    const GalleryLists& lists_;
    OverlapSums sums_;
    std::vector<Hit> bounds_;
};

}  // namespace

void select_best(Features query, Features gallery, Metric metric, Options options, SparseView rows,
                 const float* farthest, int power, double lambda, const GalleryLists& lists, Best result,
                 const Progress& progress, const Watch& watch) {
    const Screen screen(query, gallery, metric, options, options.kernels->accurate, watch);
    const GalleryColumns columns(rows, query.rows);
    const auto run = [&](std::size_t unit) {
        Selector selector(screen, rows, columns, farthest, power, lambda, lists);
        Smallest best(result.distances.cols);
        for (std::size_t q = unit * kChunk; q < std::min(query.rows, (unit + 1) * kChunk); ++q) {
            best.clear();
            selector.select(q, best);
            write_places(best.sorted(), result.distances.cols, 0, result.distances.row(q), result.indices.row(q));
        }
    };
    Watch told;
    if (progress) told = [&](std::size_t done) { progress(std::min(query.rows, done * kChunk), query.rows); };
    parallel_for((query.rows + kChunk - 1) / kChunk, options.threads, run, told);
}

}  // namespace stcanet
