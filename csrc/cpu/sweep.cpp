#include "stcanet/sweep.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace stcanet {
namespace {

// A pair that is measured costs about 8 times what it costs in float32 products, and a coarse product saves half of
// that or more: beyond this share of all pairs it does not pay.
constexpr std::size_t kMeasuredShare = 16;
constexpr std::size_t kPage = 4096, kHugePage = std::size_t{1} << 21;

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
std::size_t round_up(std::size_t a, std::size_t b) { return ceil_div(a, b) * b; }

template <typename T>
struct FreeAligned {
    void operator()(T* memory) const { ::operator delete[](memory, std::align_val_t{kPage}); }
};
template <typename T>
using Aligned = std::unique_ptr<T[], FreeAligned<T>>;

template <typename T>
Aligned<T> allocate(std::size_t count) {
    const std::size_t bytes = round_up(count * sizeof(T), kPage);
    void* memory = ::operator new[](bytes, std::align_val_t{kPage});
#ifdef MADV_HUGEPAGE
    // A tenth of a search is spent on small pages otherwise; where there are no large ones, nothing is lost.
    if (bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return Aligned<T>(static_cast<T*>(memory));
}

// Rows of one side, centred, scaled, rounded and packed: for every slice of columns, tiles of kTileWidth rows. Missing
// columns are zero, missing rows are copies of the last.
class Panel {
  public:
    Panel(const Product& product, std::size_t capacity, std::size_t columns)
        : product_(product),
          columns_(columns),
          memory_(allocate<unsigned char>(round_up(capacity, kTileWidth) * depth() * product.bytes)) {}

    void pack(const Screen& screen, const Side& side, Range rows) {
        rows_ = rows;
        parallel_for(padded() / kTileWidth, screen.options.threads, [&](std::size_t t) {
            for (std::size_t p0 = 0; p0 < depth(); p0 += product_.slice) pack_tile(screen, side, t * kTileWidth, p0);
        });
    }

    const Product& product() const { return product_; }
    Range rows() const { return rows_; }
    std::size_t depth() const { return round_up(columns_, product_.step); }
    std::size_t depth(std::size_t p0) const { return std::min(product_.slice, depth() - p0); }
    // Columns from p0 on of the tile that starts with this row of the panel.
    void* tile(std::size_t row, std::size_t p0) const {
        return memory_.get() + (p0 * padded() + row * depth(p0)) * product_.bytes;
    }

  private:
    std::size_t padded() const { return round_up(rows_.count, kTileWidth); }

    void pack_tile(const Screen& screen, const Side& side, std::size_t row, std::size_t p0) const {
        const std::size_t count = std::min(product_.slice, columns_ - p0);
        float room[kMaxSlice] = {};
        for (std::size_t r = 0; r < kTileWidth; ++r) {
            const std::size_t i = rows_.first + std::min(row + r, rows_.count - 1);
            const float* source = screen.options.kernels->floats(side.rows, i, p0, count, room);
            if (count < depth(p0) && source != room) source = static_cast<float*>(std::memcpy(room, source, 4 * count));
            product_.pack(source, side.scale[i], screen.centre() + p0, depth(p0), r, tile(row, p0));
        }
    }

    const Product& product_;
    std::size_t columns_;
    Range rows_{0, 0};
    Aligned<unsigned char> memory_;
};

// One block of products into dots [rows, kBlock]; a and b count rows from the start of their panels.
void multiply(const Panel& a_panel, std::size_t a, std::size_t rows, const Panel& b_panel, std::size_t b,
              std::size_t cols, bool diagonal, float* dots) {
    const Product& product = a_panel.product();
    for (std::size_t p0 = 0; p0 < a_panel.depth(); p0 += product.slice)
        product.multiply({a_panel.tile(a, p0), b_panel.tile(b, p0), rows, cols, a_panel.depth(p0), diagonal, p0 != 0},
                         dots);
}

// Rows of the panels of one side, whole blocks; the same for both sides of a range with itself, so that panels meet on
// the diagonal.
std::size_t panel_rows(const Product& product, std::size_t columns, Range rows, std::size_t bytes) {
    const std::size_t row_bytes = round_up(columns, product.step) * product.bytes;
    const std::size_t blocks = std::max<std::size_t>(1, bytes / row_bytes / kBlock);
    return std::min(blocks, std::max<std::size_t>(1, ceil_div(rows.count, kBlock))) * kBlock;
}

struct Unit {
    std::size_t a, b;  // blocks, counted from the start of their panels
};

std::vector<Unit> units_of(const Panel& query, const Panel& gallery, bool diagonal) {
    std::vector<Unit> units;
    for (std::size_t a = 0; a * kBlock < query.rows().count; ++a)
        for (std::size_t b = diagonal ? a : 0; b * kBlock < gallery.rows().count; ++b) units.push_back({a, b});
    return units;
}

class Sweep {
  public:
    Sweep(const Screen& screen, const std::vector<Part>& parts, std::size_t scratch,
          const std::function<void(const Block&)>& visit, const Progress& watch)
        : screen_(screen), scratch_(scratch), visit_(visit) {
        for (const Part& part : parts) {
            total_ += count_units(part);
            pairs_ += part.query.count * part.gallery.count / (with_itself(part) ? 2 : 1);
        }
        if (watch) watch_ = [this, &watch](std::size_t done) { watch(before_ + done, total_); };
    }

    void visit_part(const Part& part) {
        if (part.query.count == 0 || part.gallery.count == 0) return;
        const Side &q = screen_.query(), &g = screen_.gallery();
        const std::size_t columns = q.rows.cols;
        const std::size_t query_rows = panel_rows(*part.product, columns, part.query, scratch_ / 2),
                          gallery_rows = panel_rows(*part.product, columns, part.gallery, scratch_ / 2);
        Panel query(*part.product, query_rows, columns);
        std::unique_ptr<Panel> gallery;  // not needed when one panel holds all rows of a range with itself
        for (std::size_t i0 = 0; i0 < part.query.count; i0 += query_rows) {
            query.pack(screen_, q, cut(part.query, i0, query_rows));
            for (std::size_t j0 = with_itself(part) ? i0 : 0; j0 < part.gallery.count; j0 += gallery_rows) {
                const bool same = with_itself(part) && j0 == i0;
                if (!same) {
                    if (!gallery) gallery = std::make_unique<Panel>(*part.product, gallery_rows, columns);
                    gallery->pack(screen_, g, cut(part.gallery, j0, gallery_rows));
                }
                visit_panels(query, same ? query : *gallery);
            }
        }
    }

  private:
    static Range cut(Range range, std::size_t start, std::size_t count) {
        return {range.first + start, std::min(count, range.count - start)};
    }

    bool with_itself(const Part& part) const { return screen_.symmetric() && part.query.first == part.gallery.first; }

    std::size_t count_units(const Part& part) const {
        const std::size_t q = ceil_div(part.query.count, kBlock), g = ceil_div(part.gallery.count, kBlock);
        return with_itself(part) ? q * (q + 1) / 2 : q * g;
    }

    void visit_panels(const Panel& query, const Panel& gallery) {
        const std::vector<Unit> units = units_of(query, gallery, &query == &gallery);
        parallel_for(
            units.size(), screen_.options.threads, [&](std::size_t u) { visit_unit(query, gallery, units[u]); },
            watch_);
        before_ += units.size();
    }

    void visit_unit(const Panel& query, const Panel& gallery, Unit unit) const {
        thread_local const Aligned<float> dots = allocate<float>(kBlock * kBlock);
        const Range rows = cut(query.rows(), unit.a * kBlock, kBlock),
                    cols = cut(gallery.rows(), unit.b * kBlock, kBlock);
        const Block block{rows.first, rows.count, cols.first,
                          cols.count, dots.get(), &query == &gallery && unit.a == unit.b};
        multiply(query, unit.a * kBlock, block.rows, gallery, unit.b * kBlock, block.cols, block.diagonal, dots.get());
        visit_(block);
        if (screen_.product.rounding != Rounding::float32 && screen_.measured() > pairs_ / kMeasuredShare)
            throw ScreenTooCoarse();
    }

    const Screen& screen_;
    const std::size_t scratch_;
    const std::function<void(const Block&)>& visit_;
    Watch watch_;
    std::size_t total_ = 0, before_ = 0, pairs_ = 0;
};

}  // namespace

void sweep(const Screen& screen, const std::vector<Part>& parts, std::size_t scratch,
           const std::function<void(const Block&)>& visit, const Progress& watch) {
    Sweep run(screen, parts, scratch, visit, watch);
    for (const Part& part : parts) run.visit_part(part);
}

void sweep(const Screen& screen, std::size_t scratch, const std::function<void(const Block&)>& visit,
           const Progress& watch) {
    const Part all{{0, screen.query().rows.rows}, {0, screen.gallery().rows.rows}, &screen.product};
    sweep(screen, {all}, scratch, visit, watch);
}

}  // namespace stcanet
