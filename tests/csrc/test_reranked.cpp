// `select_best` against a sort of all final distances.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernel_tests.hpp"
#include "stcanet/reranked.hpp"
#include "stcanet/topk.hpp"

namespace stcanet::kernel_tests {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
    Data data;
    std::size_t queries, places, length;  // length: of the lists that are given
    int power;
    double lambda;
    bool grouped;
};

// V as re-ranking has it: rows of the members of the expanded sets.
struct Encoded {
    Encoded(const Case& c, const Options& options) : farthest(c.data.rows) {
        const std::size_t n = c.data.rows, k = std::min<std::size_t>(9, n);
        std::vector<std::int32_t> near(n * k);
        std::vector<float> distances(n * k);
        neighbours(c.data.view(0, c.queries), c.data.view(c.queries, n - c.queries), Metric::cosine, options, 1,
                   {{near.data(), n, k}, {distances.data(), n, k}, farthest.data()}, {}, {});
        rows = expand({near.data(), n, k}, k / 2, options.threads);
        for (std::size_t e = 0; e < rows.indices.size(); ++e)
            rows.values.push_back(0.02F + 0.01F * static_cast<float>(e % 7));
    }

    SparseView view() const { return {rows.start.data(), rows.indices.data(), rows.values.data(), farthest.size()}; }

    SparseRows rows;
    std::vector<float> farthest;
};

struct Lists {
    Lists(std::size_t queries, std::size_t length)
        : distances(queries * length), indices(queries * length), queries_(queries), length_(length) {}

    Matrix<float> values() { return {distances.data(), queries_, length_}; }
    Matrix<std::int64_t> places() { return {indices.data(), queries_, length_}; }

    std::vector<float> distances;
    std::vector<std::int64_t> indices;

  private:
    std::size_t queries_, length_;
};

// Every gallery row that the query sees, by (final distance, index).
Lists by_definition(const Case& c, const Encoded& encoded, Groups groups, const Options& options) {
    const std::size_t n = c.data.rows, g = n - c.queries;
    const std::vector<float> plain = all_distances(c.data, Metric::cosine, *options.kernels);
    const SparseRows overlap = overlaps(encoded.view(), c.queries, 0, c.queries, 1);
    Lists result(c.queries, c.places);
    for (std::size_t i = 0; i < c.queries; ++i) {
        std::vector<double> shared(g);
        for (auto e = overlap.start[i]; e < overlap.start[i + 1]; ++e) shared[overlap.indices[e]] = overlap.values[e];
        std::vector<float> final(g);
        for (std::size_t j = 0; j < g; ++j) {
            const double farthest = encoded.farthest[i], d = plain[i * n + c.queries + j];
            const double relative = farthest > 0.0 ? d / farthest : 0.0, square = relative * relative;
            const double powered = c.power == 1 ? relative : c.power == 2 ? square : square * square;
            const double jaccard = 1.0 - shared[j] / (2.0 - shared[j]);
            final[j] =
                groups.hides(i, j) ? kInfinity : static_cast<float>((1.0 - c.lambda) * jaccard + c.lambda * powered);
        }
        const std::vector<std::int32_t> order = order_of(final.data(), g);
        for (std::size_t r = 0; r < c.places; ++r) {
            result.distances[i * c.places + r] = final[order[r]];
            result.indices[i * c.places + r] = final[order[r]] < kInfinity ? order[r] : -1;
        }
    }
    return result;
}

void test_case(const Case& c, const Options& options) {
    const std::size_t n = c.data.rows, g = n - c.queries;
    const Features query = c.data.view(0, c.queries), gallery = c.data.view(c.queries, g);
    std::vector<std::int64_t> q_groups(c.queries), g_groups(g);
    for (std::size_t i = 0; i < c.queries; ++i) q_groups[i] = static_cast<std::int64_t>(i % 3);
    for (std::size_t j = 0; j < g; ++j) g_groups[j] = static_cast<std::int64_t>(j % 4 % 3);
    const Groups groups = c.grouped ? Groups{q_groups.data(), g_groups.data()} : Groups{};
    const Encoded encoded(c, options);
    Lists near(c.queries, c.length), found(c.queries, c.places);
    top_k(query, gallery, Metric::cosine, groups, options, 1, near.values(), near.places());
    const GalleryLists lists{near.values(), near.places(), groups};
    const auto select = [&](const Progress& watch) {
        select_best(query, gallery, Metric::cosine, options, encoded.view(), encoded.farthest.data(), c.power, c.lambda,
                    lists, {found.values(), found.places()}, watch);
    };
    std::size_t told = 0;
    select([&](std::size_t done, std::size_t total) { told = std::max(told, total == c.queries ? done : n); });
    const Lists expected = by_definition(c, encoded, groups, options);
    check(found.distances == expected.distances, "select_best: distances", options);
    check(found.indices == expected.indices, "select_best: indices", options);
    check(told <= c.queries, "select_best: progress", options);
    if (c.queries == 0) return;
    bool stopped = false;
    try {
        select([](std::size_t, std::size_t) { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error&) {
        stopped = true;
    }
    // A loop whose units all fell to other threads has nobody to tell.
    check(stopped || options.threads > 1, "select_best: cancellation", options);
}

}  // namespace

void test_select_best(const Options& options) {
    for (const bool grouped : {false, true})
        for (const double lambda : {0.0, 0.3, 1.0}) {
            test_case({make_data(151, 17, 21, 100), 53, 7, 11, 1, lambda, grouped}, options);
            test_case({make_data(120, 3, 22, 3), 37, 5, 6, 2, lambda, grouped}, options);   // ties and copies
            test_case({make_data(60, 4, 23, 1), 33, 3, 4, 1, lambda, grouped}, options);    // all the same
            test_case({make_data(70, 5, 24, 9), 17, 53, 53, 4, lambda, grouped}, options);  // the whole gallery
            test_case({make_data(20, 1, 25, 5), 19, 1, 1, 1, lambda, grouped}, options);    // one gallery row
            test_case({make_data(9, 2, 26, 5), 0, 2, 3, 1, lambda, grouped}, options);
        }
}

}  // namespace stcanet::kernel_tests
