// The kernels against loops over the definition, small enough to run under the sanitizers: `make sanitize`.
// What the Python tests hold against the reference is not repeated here; this is about memory, threads and
// cancellation.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "amx_model.hpp"
#include "kernel_tests.hpp"
#include "stcanet/closer.hpp"
#include "stcanet/kreciprocal.hpp"
#include "stcanet/neighbours.hpp"
#include "stcanet/ranks.hpp"
#include "stcanet/topk.hpp"

using namespace stcanet;
using namespace stcanet::kernel_tests;

namespace {

constexpr std::size_t kScratch = std::size_t{1} << 26;

void test_searches(const Data& data, std::size_t q, std::size_t k, Metric metric, const Options& options) {
    const std::size_t n = data.rows, g = n - q;
    const std::vector<float> expected = all_distances(data, metric, *options.kernels);
    std::vector<std::int32_t> indices(n * k);
    std::vector<float> distances(n * k), farthest(n), dense(q * g), matrix(q * g);
    // Gallery lists: every third row is hidden from every third query.
    std::vector<std::int64_t> q_groups(q), g_groups(g), found(q * k), listed(q * k);
    for (std::size_t i = 0; i < q; ++i) q_groups[i] = static_cast<std::int64_t>(i % 3);
    for (std::size_t j = 0; j < g; ++j) g_groups[j] = static_cast<std::int64_t>(j % 3);
    const Groups groups{q_groups.data(), g_groups.data()};
    std::vector<float> near(q * k), listed_distances(q * k);
    // Hardly any scratch: many panels.
    neighbours(data.view(0, q), data.view(q, g), metric, options, 1,
               {{indices.data(), n, k}, {distances.data(), n, k}, farthest.data()}, {dense.data(), q, g},
               {{listed_distances.data(), q, k}, {listed.data(), q, k}, groups});
    distance_matrix(data.view(0, q), data.view(q, g), metric, options, 1, {matrix.data(), q, g});
    for (std::size_t i = 0; i < n; ++i) {
        const float* row = expected.data() + i * n;
        const auto order = order_of(row, n);
        bool same = farthest[i] == *std::max_element(row, row + n);
        for (std::size_t r = 0; r < k; ++r)
            same = same && indices[i * k + r] == order[r] && distances[i * k + r] == row[order[r]];
        check(same, "neighbours", options);
        for (std::size_t j = 0; i < q && j < g; ++j) {
            const float bound = 1e-4F * (1.0F + farthest[i]);
            check(std::abs(dense[i * g + j] - row[q + j]) <= bound, "dense", options);
            check(std::abs(matrix[i * g + j] - row[q + j]) <= bound, "distance_matrix", options);
        }
    }
    top_k(data.view(0, q), data.view(q, g), metric, groups, options, 1, {near.data(), q, k}, {found.data(), q, k});
    check(found == listed && near == listed_distances, "gallery lists", options);
    for (std::size_t i = 0; i < q; ++i) {
        std::size_t place = 0;
        bool same = true;
        for (const std::int32_t j : order_of(expected.data() + i * n + q, g)) {
            if (q_groups[i] == g_groups[static_cast<std::size_t>(j)]) continue;
            if (place < k) same = same && found[i * k + place++] == j;
        }
        for (; place < k; ++place) same = same && found[i * k + place] == -1;
        check(same, "top_k", options);
    }
}

// Threads that look for a few queries (fewer than 8, in rows so short) in stripes of the gallery bound one another.
void test_stripes(const Data& data, std::size_t q, std::size_t k, Metric metric, const Options& options) {
    const Kernels& kernels = *options.kernels;
    const std::size_t g = data.rows - q, cols = data.cols;
    const auto square = [&](const float* x) { return kernels.dot(x, x, cols); };
    std::vector<float> distances(q * k), all(g);
    std::vector<std::int64_t> found(q * k);
    top_k(data.view(0, q), data.view(q, g), metric, {}, options, 1, {distances.data(), q, k}, {found.data(), q, k});
    for (std::size_t i = 0; i < q; ++i) {
        const float* x = data.values.data() + i * cols;
        for (std::size_t j = 0; j < g; ++j) {
            const float* y = data.values.data() + (q + j) * cols;
            all[j] = exact_distance(kernels, metric, x, y, cols, square(x), square(y));
        }
        const std::vector<std::int32_t> order = order_of(all.data(), g);
        check(std::equal(order.begin(), order.begin() + k, found.begin() + i * k), "stripes", options);
    }
}

// Rows stored as float16 are searched as the same values in float32, whether few queries look for them or many.
void test_halves(const Options& options) {
    std::vector<std::uint16_t> finite;
    std::vector<float> expected;
    for (int bits = 0; bits < 1 << 16; ++bits) {
        const int exponent = bits >> 10 & 31, fraction = bits & 1023;
        if (exponent == 31) continue;
        const int digits = exponent == 0 ? fraction : 1024 + fraction;
        const float value = std::ldexp(static_cast<float>(digits), std::max(exponent, 1) - 25);
        finite.push_back(static_cast<std::uint16_t>(bits));
        expected.push_back(bits >> 15 != 0 ? -value : value);
    }
    std::vector<float> wide(finite.size());
    options.kernels->widen(finite.data(), finite.size(), wide.data());
    check(wide == expected, "widen", options);
    constexpr std::size_t rows = 900, cols = 67, k = 5;
    std::mt19937 generator(17);
    std::vector<std::uint16_t> halves(rows * cols);
    for (std::uint16_t& half : halves) half = finite[generator() % finite.size()];
    std::vector<float> floats(halves.size());
    options.kernels->widen(halves.data(), halves.size(), floats.data());
    Features gallery{nullptr, rows, cols};
    gallery.half = halves.data();
    for (const std::size_t q : {1, 3, 20}) {
        const Features queries{floats.data(), q, cols};
        std::vector<float> distances[2] = {std::vector<float>(q * k), std::vector<float>(q * k)};
        std::vector<std::int64_t> indices[2] = {std::vector<std::int64_t>(q * k), std::vector<std::int64_t>(q * k)};
        for (const bool half : {false, true})
            top_k(queries, half ? gallery : Features{floats.data(), rows, cols}, Metric::cosine, {}, options, 1,
                  {distances[half].data(), q, k}, {indices[half].data(), q, k});
        check(distances[0] == distances[1] && indices[0] == indices[1], "float16 rows", options);
    }
}

// Every pair of a sweep passes by, with a key within the error of the screen; half of the rows with themselves, and
// with the other half, by either product.
void test_products(const Data& data, Metric metric, const Options& options) {
    const std::size_t n = data.rows, half = n / 2;
    const Kernels& kernels = *options.kernels;
    for (const Product* product : {&kernels.accurate, &kernels.screen}) {
        const Screen screen(data.view(0, n), metric, options, *product);
        std::vector<unsigned char> seen(n * n);
        const auto visit = [&](const Block& block) {
            for (std::size_t i = block.row; i < block.row + block.rows; ++i)
                for (std::size_t j = block.first_col(i); j < block.col + block.cols; ++j) {
                    const float *x = data.values.data() + i * data.cols, *y = data.values.data() + j * data.cols;
                    const double lengths = std::sqrt(screen.query().squared[i] * screen.query().squared[j]);
                    const double cosine = lengths > 0.0 ? kernels.dot(x, y, data.cols) / lengths : 0.0;
                    const double d =
                        metric == Metric::cosine ? 1.0 - cosine : std::sqrt(kernels.squared_distance(x, y, data.cols));
                    const float key = screen.query().offset[j] - 2.0F * block.products(i)[j - block.col];
                    check(std::abs(key - screen.key_of(i, d)) <= screen.error, "error of a key", options);
                    seen[i * n + j] = 1;
                    if (j >= block.first_mirrored(i)) seen[j * n + i] = 1;
                }
        };
        sweep(screen, {{{0, half}, {0, half}, product}, {{0, half}, {half, n - half}, product}}, 1, visit);
        for (std::size_t i = 0; i < half; ++i)
            for (std::size_t j = 0; j < n; ++j) check(seen[i * n + j] == 1, "a pair is missing", options);
    }
}

// However close rows are, the screen sees the largest distance between them as large as it can.
void test_close_rows(const Data& data, Metric metric, const Options& options) {
    const std::vector<float> all = all_distances(data, metric, *options.kernels);
    const float largest = *std::max_element(all.begin(), all.end());
    const Screen screen(data.view(0, data.rows), metric, options, options.kernels->screen);
    check(screen.key_of(0, largest) - screen.key_of(0, 0.0) >= 0.25, "close rows are seen", options);
    test_products(data, metric, options);
}

void test_rerank(const Data& data, std::size_t q, std::size_t k, const Options& options) {
    const std::size_t n = data.rows, g = n - q;
    std::vector<std::int32_t> indices(n * k);
    std::vector<float> distances(n * k), farthest(n), dense(q * g);
    neighbours(data.view(0, q), data.view(q, g), Metric::cosine, options, kScratch,
               {{indices.data(), n, k}, {distances.data(), n, k}, farthest.data()}, {dense.data(), q, g}, {});
    const Lists lists{indices.data(), n, k};
    const SparseRows sets = expand(lists, k / 2, options.threads);
    std::vector<float> weights(sets.indices.size(), 0.25F);
    const SparseRows mean =
        average({sets.start.data(), sets.indices.data(), weights.data(), n}, lists, options.threads);
    const SparseView view{mean.start.data(), mean.indices.data(), mean.values.data(), n};
    const SparseRows overlap = overlaps(view, q, 0, q, options.threads);
    for (std::size_t i = 0; i < q; ++i) {
        std::vector<float> row(n), sums(g);
        for (auto e = mean.start[i]; e < mean.start[i + 1]; ++e) row[mean.indices[e]] = mean.values[e];
        for (std::size_t j = 0; j < g; ++j)
            for (auto e = mean.start[q + j]; e < mean.start[q + j + 1]; ++e)
                sums[j] += std::min(row[mean.indices[e]], mean.values[e]);
        for (auto e = overlap.start[i]; e < overlap.start[i + 1]; ++e) {
            check(std::abs(overlap.values[e] - sums[overlap.indices[e]]) < 1e-6F, "overlaps", options);
            sums[overlap.indices[e]] = 0.0F;
        }
        check(std::all_of(sums.begin(), sums.end(), [](float s) { return s == 0.0F; }), "all overlaps", options);
    }
    const std::vector<float> before = dense;
    blend({dense.data(), q, g}, {overlap.start.data(), overlap.indices.data(), overlap.values.data(), q},
          farthest.data(), 1, 0.3, options.threads);
    if (g > 0 && q > 0 && overlap.start[1] == 0)
        check(std::abs(dense[0] - (0.7F + 0.3F * before[0] / farthest[0])) < 1e-6F, "blend", options);
}

// Every fifth gallery row is junk; of the others every third is a match of a query, and every third is hidden from it.
void test_counting(const Data& data, std::size_t q, Metric metric, const Options& options) {
    const std::size_t n = data.rows, g = n - q;
    const std::vector<float> all = all_distances(data, metric, *options.kernels);
    std::vector<float> distances, limits;
    std::vector<std::int64_t> match_start{0}, matches, hidden_start{0}, hidden, junk;
    for (std::size_t j = 0; j < g; j += 5) junk.push_back(static_cast<std::int64_t>(j));
    for (std::size_t i = 0; i < q; ++i) {
        const float* row = all.data() + i * n + q;
        distances.insert(distances.end(), row, row + g);
        for (std::size_t j = 0; j < g; ++j)
            if (j % 5 != 0 && (i + j) % 3 != 2)
                ((i + j) % 3 == 0 ? matches : hidden).push_back(static_cast<std::int64_t>(j));
        match_start.push_back(static_cast<std::int64_t>(matches.size()));
        hidden_start.push_back(static_cast<std::int64_t>(hidden.size()));
    }
    for (std::size_t i = 0; i < q; ++i)
        for (std::int64_t k = match_start[i]; k < match_start[i + 1]; ++k)
            limits.push_back(distances[i * g + static_cast<std::size_t>(matches[static_cast<std::size_t>(k)])]);
    std::vector<std::int64_t> found(matches.size()), counts(matches.size());
    const Truth truth{
        {match_start.data(), matches.data()}, {hidden_start.data(), hidden.data()}, junk.data(), junk.size()};
    check(ranks<float>({distances.data(), q, g}, truth, options, found.data()), "ranks: no NaN", options);
    const Thresholds thresholds{match_start.data(), limits.data(), matches.data()};
    // Hardly any scratch: many panels, of one block each; then one panel, whose blocks are counted at the same time.
    std::vector<std::int64_t> again(matches.size());
    count_closer(data.view(0, q), data.view(q, g), metric, thresholds, options, 1, counts.data());
    count_closer(data.view(0, q), data.view(q, g), metric, thresholds, options, kScratch, again.data());
    check(counts == again, "count_closer in panels", options);
    for (std::size_t i = 0; i < q; ++i) {
        auto place = match_start[i], rank = std::int64_t{0};
        std::vector<std::int64_t> before(g);
        std::int64_t closer = 0;
        for (const std::int32_t j : order_of(distances.data() + i * g, g)) {
            before[static_cast<std::size_t>(j)] = closer++;
            if (j % 5 == 0 || (i + static_cast<std::size_t>(j)) % 3 == 1) continue;
            ++rank;
            if ((i + static_cast<std::size_t>(j)) % 3 == 0)
                check(found[static_cast<std::size_t>(place++)] == rank, "ranks", options);
        }
        for (std::int64_t k = match_start[i]; k < match_start[i + 1]; ++k) {
            const auto at = static_cast<std::size_t>(k);
            check(counts[at] == before[static_cast<std::size_t>(matches[at])], "count_closer", options);
        }
    }
    if (q == 0 || g == 0) return;
    std::vector<double> wide(distances.begin(), distances.end());
    std::vector<std::int64_t> same(matches.size());
    check(ranks<double>({wide.data(), q, g}, truth, options, same.data()) && same == found, "ranks, float64", options);
    wide.back() = std::nan("");
    check(!ranks<double>({wide.data(), q, g}, truth, options, same.data()), "ranks: NaN", options);
}

template <typename Call>
void check_stops(const char* what, const Options& options, const Call& call) {
    bool stopped = false;
    try {
        call();
    } catch (const std::runtime_error&) {
        stopped = true;
    }
    check(stopped, what, options);
}

void test_cancellation(const Data& data, const Options& options) {
    const std::size_t n = data.rows, q = 16, g = n - q;
    std::vector<std::int32_t> indices(n);
    std::vector<std::int64_t> found(q), start(n + 1);
    std::vector<float> distances(n), farthest(n), dense(q * g);
    const Features queries = data.view(0, q), gallery = data.view(q, g);
    const Watch enough = [](std::size_t) { throw std::runtime_error("enough"); };
    check_stops("cancellation of neighbours", options, [&] {
        neighbours(queries, gallery, Metric::cosine, options, 1,
                   {{indices.data(), n, 1}, {distances.data(), n, 1}, farthest.data()}, {}, {}, as_progress(enough));
    });
    check_stops("cancellation of distance_matrix", options,
                [&] { distance_matrix(queries, gallery, Metric::cosine, options, 1, {dense.data(), q, g}, enough); });
    for (const std::size_t rows : {std::size_t{1}, q})
        check_stops("cancellation of top_k", options, [&] {
            top_k(data.view(0, rows), gallery, Metric::cosine, {}, options, 1, {distances.data(), rows, 1},
                  {found.data(), rows, 1}, enough);
        });
    const Lists lists{indices.data(), n, 1};
    const SparseView none{start.data(), nullptr, nullptr, n};
    check_stops("cancellation of expand", options, [&] { expand(lists, 1, options.threads, enough); });
    check_stops("cancellation of average", options, [&] { average(none, lists, options.threads, enough); });
    check_stops("cancellation of overlaps", options, [&] { overlaps(none, q, 0, q, options.threads, enough); });
    check_stops("cancellation of blend", options, [&] {
        blend({dense.data(), q, g}, {start.data(), nullptr, nullptr, q}, farthest.data(), 1, 0.3, options.threads,
              enough);
    });
}

}  // namespace

// Arguments are names of kernels; without any, all that this processor has, and the model.
int main(int argc, char** argv) {
    const Kernels model = amx_model::kernels();
    std::vector<const Kernels*> all = supported_kernels();
    all.push_back(&model);
    const auto wanted = [&](const Kernels& kernels) {
        return argc == 1 || std::count(argv + 1, argv + argc, std::string(kernels.name)) > 0;
    };
    std::size_t tested = 0;
    for (const Kernels* kernels : all) {
        if (!wanted(*kernels)) continue;
        ++tested;
        for (const std::size_t threads : {1, 4}) {
            const Options options{kernels, threads};
            for (const Metric metric : {Metric::cosine, Metric::euclidean}) {
                test_counting(make_data(150, 33, 1, 1000), 50, metric, options);
                test_counting(make_data(2300, 2, 9, 5), 3, metric, options);  // more than one chunk, many ties
                test_counting(make_data(40, 3, 3, 1), 20, metric, options);   // all the same
                test_counting(make_data(5, 1, 5, 9), 0, metric, options);
                test_counting(make_data(5, 1, 5, 9), 5, metric, options);
                test_searches(make_data(150, 33, 1, 1000), 50, 21, metric, options);
                test_searches(make_data(130, 4, 2, 3), 65, 7, metric, options);  // ties and copies
                test_searches(make_data(30, 5, 3, 1), 10, 5, metric, options);   // all the same
                test_searches(make_data(401, 130, 4, 50), 2, 3, metric, options);
                test_stripes(make_data(2100, 6, 16, 9), 7, 30, metric, options);
                test_searches(make_data(5, 1, 5, 9), 0, 5, metric, options);
            }
            for (const Metric metric : {Metric::cosine, Metric::euclidean})
                for (const std::size_t depth : {1, 31, 33, 257, 600})
                    test_products(make_data(110, depth, 10, 1000), metric, options);
            test_products(make_data(900, 3, 11, 9), Metric::cosine, options);
            for (const Metric metric : {Metric::cosine, Metric::euclidean}) {
                for (const float away : {30.0F, 1e3F}) test_close_rows(make_close(110, 257, 12, away), metric, options);
                test_products(make_close(110, 257, 12, 1e6F), metric, options);  // closer than float64 can tell well
                test_products(make_data(50, 33, 13, 1), metric, options);        // all the same
                test_searches(make_close(150, 33, 14, 100.0F), 50, 21, metric, options);
                test_counting(make_close(150, 33, 15, 100.0F), 50, metric, options);
            }
            test_rerank(make_data(300, 16, 6, 8), 100, 11, options);
            test_rerank(make_data(40, 3, 7, 2), 13, 9, options);
            test_cancellation(make_data(1500, 8, 8, 100), options);
            test_select_best(options);
            test_halves(options);
            test_resize_boxes(options);
        }
        std::printf("%s: tested\n", kernels->name);
    }
    if (tested == 0)
        std::puts("this processor has none of these kernels");
    else
        std::puts(failures == 0 ? "all kernels agree with the definition" : "there are failures");
    return failures == 0 && tested > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
