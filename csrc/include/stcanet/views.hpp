// Views of memory that somebody else owns. The core knows no Python and never allocates results.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stcanet {

// Row-major and contiguous: element (i, j) is data[i * cols + j].
template <typename T>
struct Matrix {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;

    T* row(std::size_t i) const { return data + i * cols; }
};

using Features = Matrix<const float>;  // [N, D]

// Gallery image j is invisible to query i when query[i] == gallery[j]. Both null: everything is visible.
struct Groups {
    const std::int64_t* query = nullptr;    // [Q]
    const std::int64_t* gallery = nullptr;  // [G]

    bool hides(std::size_t i, std::size_t j) const { return query != nullptr && query[i] == gallery[j]; }
};

}  // namespace stcanet
