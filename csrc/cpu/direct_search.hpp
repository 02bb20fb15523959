// A search of some queries, for which packing the gallery would cost more than it saves.
#pragma once

#include "stcanet/topk.hpp"

namespace stcanet {

// As top_k, with 1 <= k <= gallery.rows. Every visible row is read once for all queries: reading the gallery is nearly
// all the time.
void search_directly(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t k,
                     Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch);

}  // namespace stcanet
