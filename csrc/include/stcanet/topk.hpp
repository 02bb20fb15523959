// The k nearest gallery rows of every query row, without ever storing the [Q, G] matrix.
#pragma once

#include <cstdint>

#include "stcanet/distance.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

// distances and indices are [Q, k], each row ordered by (exact float32 distance, index). Places for which there is no
// visible gallery row hold +infinity and -1. At most about `scratch` bytes of packed rows are held at a time. The
// result does not depend on instruction set, threads or block sizes. Values must be finite and at most 1e30 in
// magnitude (a larger distance would overflow float32).
void top_k(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t scratch,
           Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch = {});

}  // namespace stcanet
