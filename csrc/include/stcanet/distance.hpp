// Distances between rows of features, by definition in float64. Formulas and bounds: csrc/README.md.
#pragma once

#include <cstddef>

#include "stcanet/isa.hpp"
#include "stcanet/parallel.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

enum class Metric { cosine, euclidean };

constexpr double kUnit32 = 0x1p-24, kUnit64 = 0x1p-53;  // unit roundoffs of float32 and float64: u and v of the proofs

struct Options {
    const Kernels* kernels;   // which instruction set
    std::size_t threads = 0;  // 0: one per processor of the machine
};

// The definition: float64 sums in the fixed order, rounded to float32 once. q_sq and g_sq are the squared lengths of
// the rows, dot(x, x), and are used by the cosine only.
float exact_distance(const Kernels& kernels, Metric metric, const float* q, const float* g, std::size_t n, double q_sq,
                     double g_sq);

// out[i, j] = distance(query i, gallery j), [Q, G], from float32 tiles; pairs that are very close come from
// exact_distance, since the tile formula cancels there. Error bound: Screen::error in screen.hpp. At most about
// `scratch` bytes of packed rows are held at a time.
void distance_matrix(Features query, Features gallery, Metric metric, Options options, std::size_t scratch,
                     Matrix<float> out, const Watch& watch = {});

}  // namespace stcanet
