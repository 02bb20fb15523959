#include "stcanet/neighbours.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"
#include "striped_lock.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kChunk = 64;  // rows of a unit of work outside the sweep

// What is kept of every row while the products pass by. The limits stand beside the lists, since they are read a vector
// at a time.
class Candidates {
  public:
    // Blocks do not cross row `split`.
    Candidates(const Screen& screen, std::size_t k, std::size_t split, const GalleryLists& lists)
        : screen_(screen), lists_(lists), locks_(size(), kBlock, split) {
        listed_.reserve(lists.distances.rows);
        const std::size_t gallery = std::max<std::size_t>(1, size() - lists.distances.rows);
        for (std::size_t i = 0; i < lists.distances.rows; ++i)
            listed_.emplace_back(screen, i, std::min(lists.distances.cols, gallery));
        nearest_.reserve(size());
        farthest_.reserve(size());
        for (std::size_t i = 0; i < size(); ++i) {
            nearest_.emplace_back(screen, i, k);
            farthest_.emplace_back(screen, i);
        }
        near_.assign(size(), std::numeric_limits<float>::infinity());
        far_.assign(size(), -std::numeric_limits<float>::infinity());
    }

    void visit(const Block& block) {
        // Blocks of rows are locked in ascending order, so two visits cannot wait for each other.
        const auto row_guard = locks_.hold(block.row);
        const auto col_guard = block.diagonal ? std::unique_lock<std::mutex>() : locks_.hold(block.col);
        for (std::size_t i = block.row; i < block.row + block.rows; ++i) scan_row(block, i);
    }

    void finish(Neighbours result, const Watch& watch) {
        const auto measure = [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                const std::vector<Hit>& best = nearest_[i].finish();
                for (std::size_t r = 0; r < best.size(); ++r) {
                    result.distances.row(i)[r] = best[r].value;
                    result.indices.row(i)[r] = best[r].index;
                }
                result.farthest[i] = farthest_[i].finish();
            }
        };
        const std::size_t queries = listed_.size();
        const auto list_gallery = [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i)
                write_places(listed_[i].finish(), lists_.distances.cols, queries, lists_.distances.row(i),
                             lists_.indices.row(i));
        };
        parallel_ranges(size(), kChunk, screen_.options.threads, measure, watch);
        parallel_ranges(queries, kChunk, screen_.options.threads, list_gallery, watch);
    }

  private:
    std::size_t size() const { return screen_.query().rows.rows; }

    void scan_row(const Block& block, std::size_t i) {
        const std::size_t first = block.first_col(i), n = block.col + block.cols - first;
        const float* dots = block.products(i) + (first - block.col);
        const std::vector<float>& offset = screen_.query().offset;
        // Gallery rows come after all queries: those of a query are columns of its row, never the other way round.
        const bool lists = i < listed_.size() && block.col + block.cols > listed_.size();
        const float near = lists ? std::max(near_[i], listed_[i].limit()) : near_[i];
        const ScanRow row{
            dots, n, near, far_[i], offset[i], offset.data() + first, near_.data() + first, far_.data() + first};
        std::uint32_t hits[kBlock];
        const std::size_t count = screen_.options.kernels->scan(row, hits);
        for (std::size_t h = 0; h < count; ++h) {
            const std::size_t j = first + hits[h];
            push(i, j, offset[j] - 2.0F * dots[hits[h]]);
            if (lists) list(i, j, offset[j] - 2.0F * dots[hits[h]]);
            if (j >= block.first_mirrored(i)) push(j, i, offset[i] - 2.0F * dots[hits[h]]);
        }
    }

    void push(std::size_t i, std::size_t j, float key) {
        nearest_[i].push(key, j);
        farthest_[i].push(key, j);
        near_[i] = nearest_[i].limit();
        far_[i] = farthest_[i].limit();
    }

    void list(std::size_t i, std::size_t j, float key) {
        const std::size_t queries = listed_.size();
        if (j >= queries && !lists_.groups.hides(i, j - queries)) listed_[i].push(key, j);
    }

    const Screen& screen_;
    const GalleryLists& lists_;
    StripedLock locks_;
    std::vector<Nearest> nearest_, listed_;
    std::vector<Farthest> farthest_;
    std::vector<float> near_, far_;
};

// Every unordered pair once; products of rows before and after the split are accurate.
std::vector<Part> parts_of(const Screen& screen, std::size_t split) {
    const Range before{0, split}, after{split, screen.query().rows.rows - split};
    return {{before, after, &screen.options.kernels->accurate},
            {before, before, &screen.product},
            {after, after, &screen.product}};
}

// A block of [Q, G]; its columns count rows of the joint set.
void write_dense(const Screen& screen, const Block& block, Matrix<float> dense) {
    for (std::size_t i = block.row; i < block.row + block.rows; ++i)
        screen.distances(i, block.col, block.cols, block.products(i), dense.row(i) + (block.col - dense.rows));
}

}  // namespace

void neighbours(Features query, Features gallery, Metric metric, Options options, std::size_t scratch,
                Neighbours result, Matrix<float> dense, const GalleryLists& lists, const Progress& progress,
                const Watch& watch) {
    search_with_best(*options.kernels, progress, [&](const Product& product, const Progress& told) {
        // Copies of the watch: one that looks now and then looks at once in each part.
        const Screen screen(Features::joint(query, gallery), metric, options, product, Watch(watch));
        // [Q, G] has to be accurate where it is wanted, and is multiplied apart from the rest.
        const std::size_t split = dense.data != nullptr ? query.rows : 0;
        Candidates candidates(screen, result.distances.cols, split, lists);
        sweep(
            screen, parts_of(screen, split), scratch,
            [&](const Block& block) {
                if (block.row < split && block.col >= split) write_dense(screen, block, dense);
                candidates.visit(block);
            },
            told);
        candidates.finish(result, Watch(watch));
    });
}

void pair_distances(Features query, Features gallery, Metric metric, Options options, const std::int64_t* rows,
                    const std::int64_t* cols, std::size_t count, float* out, const Watch& watch) {
    const Features all = Features::joint(query, gallery);
    const Kernels& kernels = *options.kernels;
    const auto measure = [&](std::size_t begin, std::size_t end) {
        for (std::size_t p = begin; p < end; ++p) {
            const float* x = all.row(static_cast<std::size_t>(rows[p]));
            const float* y = all.row(static_cast<std::size_t>(cols[p]));
            const bool cosine = metric == Metric::cosine;
            out[p] = exact_distance(kernels, metric, x, y, all.cols, cosine ? kernels.dot(x, x, all.cols) : 0.0,
                                    cosine ? kernels.dot(y, y, all.cols) : 0.0);
        }
    };
    parallel_ranges(count, kChunk, options.threads, measure, watch);
}

void smallest(Features values, std::size_t k, std::size_t threads, Matrix<float> found, Matrix<std::int32_t> indices,
              const Watch& watch) {
    const auto select = [&](std::size_t i) {
        Smallest smallest(k);
        for (std::size_t j = 0; j < values.cols; ++j) smallest.offer({values.row(i)[j], static_cast<std::int32_t>(j)});
        const std::vector<Hit>& best = smallest.sorted();
        for (std::size_t r = 0; r < k; ++r) {
            found.row(i)[r] = best[r].value;
            indices.row(i)[r] = best[r].index;
        }
    };
    parallel_for(values.rows, threads, select, watch);
}

}  // namespace stcanet
