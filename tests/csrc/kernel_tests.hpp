// What the C++ tests share.
#pragma once

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "stcanet/distance.hpp"

namespace stcanet::kernel_tests {

inline int failures = 0;

inline void check(bool condition, const char* what, const Options& options) {
    if (condition) return;
    ++failures;
    std::printf("FAILED: %s (%s, %zu threads)\n", what, options.kernels->name, options.threads);
}

struct Data {
    std::size_t rows, cols;
    std::vector<float> values;

    Features view(std::size_t first, std::size_t count) const { return {values.data() + first * cols, count, cols}; }
};

// Whole numbers, so that many distances are equal.
inline Data make_data(std::size_t rows, std::size_t cols, unsigned seed, int levels) {
    std::mt19937 generator(seed);
    Data data{rows, cols, std::vector<float>(rows * cols)};
    for (float& value : data.values) value = static_cast<float>(static_cast<int>(generator() % levels) - levels / 2);
    return data;
}

// The same, far away from zero: rows of nearly one direction.
inline Data make_close(std::size_t rows, std::size_t cols, unsigned seed, float away) {
    Data data = make_data(rows, cols, seed, 9);
    for (float& value : data.values) value += away;
    return data;
}

// By definition: every row's distances to all rows.
inline std::vector<float> all_distances(const Data& data, Metric metric, const Kernels& kernels) {
    std::vector<float> result(data.rows * data.rows);
    for (std::size_t i = 0; i < data.rows; ++i)
        for (std::size_t j = 0; j < data.rows; ++j) {
            const float *x = data.values.data() + i * data.cols, *y = data.values.data() + j * data.cols;
            result[i * data.rows + j] = exact_distance(kernels, metric, x, y, data.cols, kernels.dot(x, x, data.cols),
                                                       kernels.dot(y, y, data.cols));
        }
    return result;
}

inline std::vector<std::int32_t> order_of(const float* distances, std::size_t n) {
    std::vector<std::int32_t> order(n);
    for (std::size_t j = 0; j < n; ++j) order[j] = static_cast<std::int32_t>(j);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return distances[a] < distances[b]; });
    return order;
}

void test_select_best(const Options& options);
void test_resize_boxes(const Options& options);

}  // namespace stcanet::kernel_tests
