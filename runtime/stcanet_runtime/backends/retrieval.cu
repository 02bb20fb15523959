// Kernels of the GPU backend for search and re-ranking; csrc/README.md says what is computed.
// tests/csrc/simt_backend.cpp compiles this file for the CPU, where threads run one by one in random order.

#include "launch.cuh"

STCANET_DEVICE unsigned to_bits(float x) {
    union {
        float f;
        unsigned u;
    } both = {x};
    return both.u;
}

STCANET_DEVICE float from_bits(unsigned u) {
    union {
        unsigned u;
        float f;
    } both = {u};
    return both.f;
}

STCANET_DEVICE float infinity() { return from_bits(0x7f800000U); }
STCANET_DEVICE float not_a_number() { return from_bits(0x7fc00000U); }

// Integers in the order of the float32.
STCANET_DEVICE unsigned to_ordered(float x) {
    const unsigned bits = to_bits(x);
    return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}
STCANET_DEVICE float from_ordered(unsigned u) { return from_bits(u & 0x80000000U ? u & 0x7fffffffU : ~u); }

// ---- exact distances ----------------------------------------------------------------------------------------------

// Queries, then gallery rows, as one list.
struct Joint {
    const float *query, *gallery;
    Long num_query;
    int depth;

    STCANET_DEVICE const float* row(Long i) const {
        return i < num_query ? query + i * depth : gallery + (i - num_query) * depth;
    }
};

STCANET_DEVICE double partial_sum(const float* x, const float* y, int depth, bool cosine, int lane) {
    double sum = 0.0;
    for (int d = lane; d < depth; d += kPartials) {
        const double difference = static_cast<double>(x[d]) - static_cast<double>(y[d]);
        sum += cosine ? static_cast<double>(x[d]) * static_cast<double>(y[d]) : difference * difference;
    }
    return sum;
}

// One thread: all partial sums, folded in halves.
struct Alone {
    static constexpr int kLanes = 1;
};
template <class Exec>
STCANET_DEVICE double ordered_sum(Exec& exec, const float* x, const float* y, int depth, bool cosine, int lane) {
    if constexpr (Exec::kLanes == kPartials) {
        double sum = partial_sum(x, y, depth, cosine, lane);
        for (int mask = kPartials / 2; mask > 0; mask /= 2) sum += exec.shuffle_xor(sum, mask);
        return sum;
    } else {
        double sums[kPartials];
        for (int l = 0; l < kPartials; ++l) sums[l] = partial_sum(x, y, depth, cosine, l);
        for (int half = kPartials / 2; half > 0; half /= 2)
            for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
        return sums[0];
    }
}

template <class Exec>
STCANET_DEVICE float exact_distance(Exec& exec, Joint rows, const double* squared, Long i, Long j, bool cosine,
                                    int lane) {
    const double sum = ordered_sum(exec, rows.row(i), rows.row(j), rows.depth, cosine, lane);
    if (!cosine) return static_cast<float>(sqrt(sum));
    const double lengths = sqrt(squared[i] * squared[j]);
    const double distance = 1.0 - (lengths > 0.0 ? sum / lengths : 0.0);
    return static_cast<float>(distance < 0.0 ? 0.0 : distance > 2.0 ? 2.0 : distance);
}

// out[i] = squared length of row i, by the definition.
template <class Exec>
STCANET_DEVICE void squared_lengths(Exec& exec, Long i, int lane, Joint rows, double* out) {
    const double sum = ordered_sum(exec, rows.row(i), rows.row(i), rows.depth, true, lane);
    if (lane == 0) out[i] = sum;
}

// out[p] = distance of the joint rows first_row + rows[p] and first_col + cols[p].
template <class Exec>
STCANET_DEVICE void measure(Exec& exec, Long p, int lane, Joint joint, const double* squared, int cosine,
                            const int* rows, const int* cols, Long first_row, Long first_col, float* out) {
    const float distance =
        exact_distance(exec, joint, squared, first_row + rows[p], first_col + cols[p], cosine != 0, lane);
    if (lane == 0) out[p] = distance;
}

// A tile [R, C] of float64 products becomes float32 distances; those that the formula would cancel are measured.
template <class Exec>
STCANET_DEVICE void finish_tile(Exec&, Long place, Joint joint, const double* squared, int cosine, double close,
                                const double* products, Long columns, Long first_row, Long first_col, float* out) {
    const Long i = first_row + place / columns, j = joint.num_query + first_col + place % columns;
    const double x = squared[i], y = squared[j];
    double distance, key;
    if (cosine) {
        const double lengths = sqrt(x) * sqrt(y);
        distance = 1.0 - (lengths > 0.0 ? products[place] / lengths : 0.0);
        key = distance;
        distance = distance > 2.0 ? 2.0 : distance;
    } else {
        key = x + y - 2.0 * products[place];
        distance = sqrt(key > 0.0 ? key : 0.0);
    }
    Alone alone;
    out[place] =
        key < close ? exact_distance(alone, joint, squared, i, j, cosine != 0, 0) : static_cast<float>(distance);
}

// ---- the screen ---------------------------------------------------------------------------------------------------

// Columns first … first + columns of a block of keys; see screen.py.
struct Keys {
    const float* products;  // [R, stride], −2 q' · g'
    Long stride, first, columns;
    const float* offset;              // [stride] or null
    const Long *q_groups, *g_groups;  // [R] and [columns], or null; equal groups hide a column from a row
};

// One row of them. Columns are int32 wherever they are written, so that a few steps beyond the last fit 32 bits.
struct KeyRow {
    const float* products;
    const float* offset;   // or null
    const Long* g_groups;  // or null
    Long group;
    unsigned columns;

    STCANET_DEVICE KeyRow(const Keys& keys, Long row)
        : products(keys.products + row * keys.stride + keys.first),
          offset(keys.offset == nullptr ? nullptr : keys.offset + keys.first),
          g_groups(keys.q_groups == nullptr ? nullptr : keys.g_groups),
          group(keys.q_groups == nullptr ? 0 : keys.q_groups[row]),
          columns(static_cast<unsigned>(keys.columns)) {}

    STCANET_DEVICE float at(unsigned column) const {
        return offset == nullptr ? products[column] : products[column] + offset[column];
    }
    STCANET_DEVICE bool hides(unsigned column) const { return g_groups != nullptr && g_groups[column] == group; }
};

// Keys are read some at a time before the first is looked at, or a thread would wait for each.
constexpr int kAhead = 4;

// out[i] = key of column first + i * step; what is hidden, or not below `end`, is neither below nor above anything.
// Nothing but the choice depends on that: reads behind branches would wait for one another.
STCANET_DEVICE void read_ahead(float (&out)[kAhead], const KeyRow& row, unsigned first, unsigned step, unsigned end) {
    for (int i = 0; i < kAhead; ++i) {
        const unsigned column = first + i * step, inside = column < end ? column : first;
        const float key = row.at(inside);
        out[i] = row.hides(inside) || column >= end ? not_a_number() : key;
    }
}

// Part of a row, for a block: `length` columns at most.
struct Piece {
    Long row;
    unsigned first, end;

    STCANET_DEVICE Piece(Long item, Long columns, int length) {
        const unsigned all = static_cast<unsigned>(columns), most = static_cast<unsigned>(length);
        const unsigned pieces = (all + most - 1) / most;
        row = item / pieces;
        first = static_cast<unsigned>(item % pieces) * most;
        end = all - first < most ? all : first + most;
    }
};

// limits[row] = the k-th smallest visible key or a little more, plus the window; far_limits[row] = the largest less it.
//
// A bound of the k-th smallest is the k-th smallest of the minima of `groups` >= k groups of columns. It is found bit
// by bit, as the largest number that fewer than k minima are below, and rounded up to kBits.
template <class Exec>
STCANET_DEVICE void row_limits(Exec& exec, Long row, Keys keys, int k, float window, Long groups, float* minima,
                               float* limits, float* far_limits) {
    constexpr int kBits = 20;
    constexpr unsigned kRest = (1U << (32 - kBits)) - 1;
    int* const below = reinterpret_cast<int*>(exec.shared());
    unsigned* const largest = reinterpret_cast<unsigned*>(exec.shared()) + kBits;
    for (int i = exec.thread(); i <= kBits; i += exec.threads()) below[i] = 0;
    exec.sync();
    const KeyRow row_keys(keys, row);
    float* const own = minima + row * groups;
    float far = -infinity();
    const unsigned step = static_cast<unsigned>(groups);
    for (unsigned group = exec.thread(); group < step; group += exec.threads()) {
        float least = infinity();
        for (unsigned column = group; column < row_keys.columns; column += kAhead * step) {
            float ahead[kAhead];
            read_ahead(ahead, row_keys, column, step, row_keys.columns);
            for (const float key : ahead) {
                least = key < least ? key : least;
                far = key > far ? key : far;
            }
        }
        own[group] = least;
    }
    exec.raise(largest, to_ordered(far));
    unsigned found = 0;
    for (int bit = 0; bit < kBits; ++bit) {
        const unsigned trial = found | 0x80000000U >> bit;
        int count = 0;
        for (Long group = exec.thread(); group < groups; group += exec.threads())
            count += to_ordered(own[group]) < trial ? 1 : 0;
        if (count > 0) exec.add(below + bit, count);
        exec.sync();
        if (below[bit] < k) found = trial;
    }
    if (exec.thread() != 0) return;
    const unsigned up = found | kRest, most = to_ordered(infinity());
    limits[row] = from_ordered(up < most ? up : most) + window;
    if (far_limits != nullptr) far_limits[row] = from_ordered(*largest) - window;
}

// What a thread finds for a row. Called twice: to count, and with places to write to.
struct Found {
    int* counts;        // [R], zero before
    const Long* start;  // [R + 1], or null to count
    int *rows, *cols;
    float* values;  // or null

    template <class Exec>
    STCANET_DEVICE void add(Exec& exec, Long row, int col, float value) const {
        const int place = exec.add(counts + row, 1);
        if (start == nullptr) return;
        const Long at = start[row] + place;
        rows[at] = static_cast<int>(row);
        cols[at] = col;
        if (values != nullptr) values[at] = value;
    }
};

// Columns that can be among the k nearest of a row, or the farthest; a block takes `length` of a row.
template <class Exec>
STCANET_DEVICE void collect(Exec& exec, Long item, Keys keys, int length, const float* limits, const float* far_limits,
                            Found found) {
    const Piece piece(item, keys.columns, length);
    const KeyRow row(keys, piece.row);
    const float near = limits[piece.row], far = far_limits == nullptr ? not_a_number() : far_limits[piece.row];
    const unsigned step = exec.threads();
    for (unsigned first = piece.first + exec.thread(); first < piece.end; first += kAhead * step) {
        float ahead[kAhead];
        read_ahead(ahead, row, first, step, piece.end);
        for (int i = 0; i < kAhead; ++i)
            if (ahead[i] <= near || ahead[i] >= far)
                found.add(exec, piece.row, static_cast<int>(first + i * step), 0.0F);
    }
}

// The order of (value, index).
STCANET_DEVICE bool precedes(float value, int index, float other, int other_index) {
    return value < other || (value == other && index < other_index);
}

// Writes candidate p to its place among those of its row, if that is one of the first k. Candidates of a row are
// `listed` [R, length], index −1 where there is none, and values[start[row]] …. Counting ends at k, so it takes long
// for few.
template <class Exec>
STCANET_DEVICE void place_best(Exec&, Long p, const float* listed, const int* listed_index, int length,
                               Long listed_rows, const Long* start, const int* rows, const int* cols,
                               const float* values, int k, float* out, int* out_index) {
    const Long listed_count = listed_rows * length;
    const Long row = p < listed_count ? p / length : rows[p - listed_count];
    const float value = p < listed_count ? listed[p] : values[p - listed_count];
    const int index = p < listed_count ? listed_index[p] : cols[p - listed_count];
    if (index < 0) return;
    int before = 0;
    for (Long i = row * length; i < (row + 1) * length && before < k; ++i)
        before += listed_index[i] >= 0 && precedes(listed[i], listed_index[i], value, index) ? 1 : 0;
    for (Long i = start[row]; i < start[row + 1] && before < k; ++i)
        before += precedes(values[i], cols[i], value, index) ? 1 : 0;
    if (before >= k) return;
    out[row * k + before] = value;
    out_index[row * k + before] = index;
}

// The largest value of each row; they are not negative, so that their bits are in their order.
template <class Exec>
STCANET_DEVICE void raise_farthest(Exec& exec, Long p, const int* rows, const float* values, float* farthest) {
    exec.raise(reinterpret_cast<unsigned*>(farthest) + rows[p], to_bits(values[p]));
}

// ---- k-reciprocal sets --------------------------------------------------------------------------------------------

// out[i, p] = whether i is among the first k of its neighbour lists[i, p], for p < k. lists is [N, width].
template <class Exec>
STCANET_DEVICE void mutual(Exec&, Long place, const int* lists, int width, int k, Flag* out) {
    const Long i = place / k;
    const int* const near = lists + static_cast<Long>(lists[i * width + place % k]) * width;
    int found = 0;
    for (int p = 0; p < k; ++p) found |= near[p] == i ? 1 : 0;
    out[place] = static_cast<Flag>(found);
}

struct Sets {
    const int* lists;    // [N, width]
    const Flag* member;  // [N, width]: R(i, k1)
    const Flag* near;    // [N, half]: R(i, k1 / 2)
    int width, half;

    STCANET_DEVICE int id(Long i, int p) const { return lists[i * width + p]; }
    STCANET_DEVICE bool holds(Long i, int id) const {
        int found = 0;
        for (int p = 0; p < width; ++p) found |= member[i * width + p] && lists[i * width + p] == id ? 1 : 0;
        return found != 0;
    }
    STCANET_DEVICE bool near_holds(Long c, int id) const {
        int found = 0;
        for (int q = 0; q < half; ++q) found |= near[c * half + q] && lists[c * width + q] == id ? 1 : 0;
        return found != 0;
    }
};

// joins[i, p] = whether p is in R(i, k1) and more than 2/3 of its own half set are.
template <class Exec>
STCANET_DEVICE void join_sets(Exec&, Long place, Sets sets, Flag* joins) {
    const Long i = place / sets.width;
    int size = 0, shared = 0;
    const Long c = sets.lists[place];
    for (int q = 0; q < sets.half && sets.member[place]; ++q) {
        if (!sets.near[c * sets.half + q]) continue;
        ++size;
        shared += sets.holds(i, sets.id(c, q)) ? 1 : 0;
    }
    joins[place] = static_cast<Flag>(3 * shared > 2 * size);
}

// Members of the expanded sets, each once: place 0 of 1 + half is neighbour p itself, the others its half set.
template <class Exec>
STCANET_DEVICE void unite_sets(Exec& exec, Long place, Sets sets, const Flag* joins, Found found) {
    const Long pair = place / (1 + sets.half), i = pair / sets.width;
    const int p = static_cast<int>(pair % sets.width), q = static_cast<int>(place % (1 + sets.half)) - 1;
    if (q < 0) {
        if (sets.member[pair]) found.add(exec, i, sets.lists[pair], 0.0F);
        if (p > 0) return;
        for (int other = 0; other < sets.width; ++other)
            if (sets.member[i * sets.width + other]) return;
        return found.add(exec, i, static_cast<int>(i), 0.0F);  // more than k copies: not even itself
    }
    const Long c = sets.lists[pair];
    if (!joins[pair] || !sets.near[c * sets.half + q]) return;
    const int id = sets.id(c, q);
    if (sets.holds(i, id)) return;
    for (int earlier = 0; earlier < p; ++earlier)
        if (joins[i * sets.width + earlier] && sets.near_holds(sets.id(i, earlier), id)) return;
    found.add(exec, i, id, 0.0F);
}

// Columns of sparse rows into ascending order. No column is in a row twice.
template <class Exec>
STCANET_DEVICE void sort_columns(Exec&, Long e, const Long* start, const int* rows, const int* cols,
                                 const float* values, int* out_cols, float* out_values) {
    const Long first = start[rows[e]];
    Long place = first;
    for (Long other = first; other < start[rows[e] + 1]; ++other) place += cols[other] < cols[e] ? 1 : 0;
    out_cols[place] = cols[e];
    if (values != nullptr) out_values[place] = values[e];
}

// ---- sparse rows --------------------------------------------------------------------------------------------------

struct Rows {
    const Long* start;
    const int* cols;  // ascending in each row
    const float* values;

    // Place of a column in a row, or −1.
    STCANET_DEVICE Long find(Long row, int col) const {
        Long low = start[row], high = start[row + 1];
        while (low < high) {
            const Long middle = (low + high) / 2;
            if (cols[middle] < col)
                low = middle + 1;
            else
                high = middle;
        }
        return low < start[row + 1] && cols[low] == col ? low : -1;
    }
};

// The row that entry e is in.
STCANET_DEVICE Long row_of(const Long* start, Long num_rows, Long e) {
    Long low = 0, high = num_rows;  // start[low] <= e < start[high]
    while (high - low > 1) {
        const Long middle = (low + high) / 2;
        if (start[middle] <= e)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// out[e] = distance of the entry, where its column is in the list of its row, else −1.
template <class Exec>
STCANET_DEVICE void listed_distances(Exec&, Long e, const int* rows, const int* cols, const int* lists,
                                     const float* distances, int width, float* out) {
    const Long first = static_cast<Long>(rows[e]) * width;
    float distance = -1.0F;
    for (int p = 0; p < width; ++p)
        if (lists[first + p] == cols[e]) distance = distances[first + p];
    out[e] = distance;
}

// (distance / farthest)^power by squares, 0 where the farthest is 0; as formulas.py.
STCANET_DEVICE double relative_distance(float distance, float farthest, int power) {
    double relative = farthest > 0.0F ? static_cast<double>(distance) / static_cast<double>(farthest) : 0.0;
    for (int p = power; p > 1; p /= 2) relative *= relative;
    return relative;
}

// exp(−relative) of the entries of row i, divided by their sum.
template <class Exec>
STCANET_DEVICE void set_weights(Exec& exec, Long i, const Long* start, const float* distances, const float* farthest,
                                int power, float* out) {
    double sum = 0.0;
    for (Long e = start[i]; e < start[i + 1]; ++e)
        sum += exec.exp(-relative_distance(distances[e], farthest[i], power));
    for (Long e = start[i]; e < start[i + 1]; ++e)
        out[e] = static_cast<float>(exec.exp(-relative_distance(distances[e], farthest[i], power)) / sum);
}

// Row i becomes the mean of the rows of its neighbours [N, k]. A thread takes the columns that its neighbour is the
// first to have.
template <class Exec>
STCANET_DEVICE void average_rows(Exec& exec, Long place, Rows rows, const int* neighbours, int k, Found found) {
    const Long i = place / k;
    const int* const own = neighbours + i * k;
    const int r = static_cast<int>(place % k);
    for (Long e = rows.start[own[r]]; e < rows.start[own[r] + 1]; ++e) {
        bool first = true;
        for (int other = 0; other < r && first; ++other) first = rows.find(own[other], rows.cols[e]) < 0;
        if (!first) continue;
        double sum = rows.values[e];
        for (int other = r + 1; other < k; ++other) {
            const Long at = rows.find(own[other], rows.cols[e]);
            if (at >= 0) sum += rows.values[at];
        }
        found.add(exec, i, rows.cols[e], static_cast<float>(sum / k));
    }
}

// Overlaps of query rows with the gallery rows that share a column: holders[column_start[j]] … hold column j. A thread
// takes entry first + e of a query, and those that share no earlier column; sums in ascending columns, as everywhere.
template <class Exec>
STCANET_DEVICE void overlap_rows(Exec& exec, Long e, Rows rows, Long num_query, Long first_query, Long first,
                                 const Long* column_start, const int* holders, Found found) {
    const Long entry = first + e, q = row_of(rows.start, num_query, entry);
    const int column = rows.cols[entry];
    for (Long h = column_start[column]; h < column_start[column + 1]; ++h) {
        const Long g = num_query + holders[h];
        double sum = 0.0;
        bool mine = true;
        for (Long a = rows.start[q], b = rows.start[g]; mine && a < rows.start[q + 1] && b < rows.start[g + 1];) {
            if (rows.cols[a] == rows.cols[b]) {
                mine = a >= entry;
                sum += rows.values[a] < rows.values[b] ? rows.values[a] : rows.values[b];
                ++a;
                ++b;
            } else if (rows.cols[a] < rows.cols[b]) {
                ++a;
            } else {
                ++b;
            }
        }
        if (mine && sum > 0.0) found.add(exec, q - first_query, holders[h], static_cast<float>(sum));
    }
}

// (1 − λ) J + λ (distance / farthest)^power with J = 1 − m / (2 − m), rounded once; as formulas.py.
STCANET_DEVICE float final_distance(float overlap, float distance, float farthest, int power, double lambda) {
    const double m = overlap, jaccard = 1.0 - m / (2.0 - m);
    return static_cast<float>((1.0 - lambda) * jaccard + lambda * relative_distance(distance, farthest, power));
}

// Distances [R, columns] become final ones, in place.
template <class Exec>
STCANET_DEVICE void blend_rows(Exec&, Long place, Rows overlaps, const float* farthest, Long columns, int power,
                               double lambda, float* dense) {
    const Long row = place / columns, at = overlaps.find(row, static_cast<int>(place % columns));
    dense[place] = final_distance(at < 0 ? 0.0F : overlaps.values[at], dense[place], farthest[row], power, lambda);
}

// ---- the best of every query --------------------------------------------------------------------------------------

struct Blend {
    Rows overlaps;          // of the queries, [Q, G]
    const float* farthest;  // [Q]
    int power;
    double lambda;

    STCANET_DEVICE float operator()(Long q, int g, float distance) const {
        const Long at = overlaps.find(q, g);
        return final_distance(at < 0 ? 0.0F : overlaps.values[at], distance, farthest[q], power, lambda);
    }
};

// Final distances of the listed gallery rows [Q, length]; infinite where there is none.
template <class Exec>
STCANET_DEVICE void listed_values(Exec&, Long place, Blend blend, const float* distances, const int* indices,
                                  int length, float* out) {
    out[place] = indices[place] < 0 ? infinity() : blend(place / length, indices[place], distances[place]);
}

// limits[q] = the value at place `places` of each row [Q, length].
template <class Exec>
STCANET_DEVICE void nth_value(Exec&, Long place, const float* values, int length, int places, float* limits) {
    const Long first = place / length * length;
    int before = 0;
    for (int l = 0; l < length; ++l)
        before += precedes(values[first + l], l, values[place], static_cast<int>(place - first)) ? 1 : 0;
    if (before == places - 1) limits[place / length] = values[place];
}

// Gallery rows that overlap with a query, are not in its list, and can be among its best: their distance is at least
// that of the last listed, whatever it is.
template <class Exec>
STCANET_DEVICE void add_touched(Exec& exec, Long e, Blend blend, Long num_query, const float* distances,
                                const int* indices, int length, const float* limits, const Long* q_groups,
                                const Long* g_groups, Found found) {
    const Long q = row_of(blend.overlaps.start, num_query, e);
    const int g = blend.overlaps.cols[e];
    const float last = distances[(q + 1) * length - 1];
    if (last == infinity()) return;  // all that it sees is listed
    if (q_groups != nullptr && q_groups[q] == g_groups[g]) return;
    for (int l = 0; l < length; ++l)
        if (indices[q * length + l] == g) return;
    const float bound = final_distance(blend.overlaps.values[e], last, blend.farthest[q], blend.power, blend.lambda);
    if (bound <= limits[q]) found.add(exec, q, g, 0.0F);
}

// values[p] = final distance of a measured one.
template <class Exec>
STCANET_DEVICE void blend_pairs(Exec&, Long p, Blend blend, const int* rows, const int* cols, float* values) {
    values[p] = blend(rows[p], cols[p], values[p]);
}

// unsure[q] = whether a row that neither overlaps nor is listed could be among the best [Q, places].
template <class Exec>
STCANET_DEVICE void find_unsure(Exec&, Long q, const float* distances, int length, const float* best, int places,
                                const float* farthest, int power, double lambda, Flag* unsure) {
    const float last = distances[(q + 1) * length - 1];
    const float bound = last == infinity() ? infinity() : final_distance(0.0F, last, farthest[q], power, lambda);
    unsure[q] = static_cast<Flag>(last != infinity() && bound <= best[(q + 1) * places - 1]);
}

// Final distances [R, G] of the queries `which` after first_query, infinite for hidden rows.
template <class Exec>
STCANET_DEVICE void whole_rows(Exec& exec, Long place, int lane, Joint joint, const double* squared, int cosine,
                               Blend blend, const Long* which, Long first_query, Long columns, const Long* q_groups,
                               const Long* g_groups, float* out) {
    const Long q = which[place / columns], g = place % columns;
    // Of λ = 0 plain distances count for nothing.
    const float distance = blend.lambda == 0.0 ? 0.0F
                                               : exact_distance(exec, joint, squared, first_query + q,
                                                                joint.num_query + g, cosine != 0, lane);
    if (lane > 0) return;
    const bool hidden = q_groups != nullptr && q_groups[q] == g_groups[g];
    out[place] = hidden ? infinity() : blend(q, static_cast<int>(g), distance);
}

// ---- evaluation ---------------------------------------------------------------------------------------------------

// First of the thresholds low … high, which ascend, that (value, place) comes before.
template <class T>
STCANET_DEVICE Long step_of(const T* distances, const Long* places, Long low, Long high, T value, Long place) {
    while (low < high) {
        const Long middle = (low + high) / 2;
        if (distances[middle] < value || (distances[middle] == value && places[middle] <= place))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// A column that comes before threshold k of a row, and not before k − 1, is one of steps[k + row]. Those whose step the
// window leaves open are found. A block takes `length` columns of a row.
template <class Exec>
STCANET_DEVICE void count_sure(Exec& exec, Long item, Keys keys, int length, Long first_row, const Long* start,
                               const double* limits, double window, int* steps, Found found) {
    const Piece piece(item, keys.columns, length);
    const KeyRow row(keys, piece.row);
    const Long begin = start[first_row + piece.row], last = start[first_row + piece.row + 1];
    for (unsigned column = piece.first + exec.thread(); column < piece.end; column += exec.threads()) {
        const double key = static_cast<double>(row.at(column));
        Long low = begin, high = last;
        while (low < high) {  // the first that is not surely before the key
            const Long middle = (low + high) / 2;
            if (limits[middle] + window < key)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < last && limits[low] - window <= key)
            found.add(exec, piece.row, static_cast<int>(column), 0.0F);
        else if (low < last && found.start != nullptr)
            exec.add(steps + low + first_row + piece.row, 1);
    }
}

template <class Exec>
STCANET_DEVICE void count_measured(Exec& exec, Long p, const int* rows, const int* cols, const float* values,
                                   Long first_row, const Long* start, const float* distances, const Long* places,
                                   int* steps) {
    const Long row = first_row + rows[p];
    exec.add(steps + step_of(distances, places, start[row], start[row + 1], values[p], cols[p]) + row, 1);
}

// Columns of distances [R, columns] that a row sees: not junk, and not among its hidden, which ascend.
template <class Exec>
STCANET_DEVICE void count_before(Exec& exec, Long item, const double* values, Long columns, Long first_row,
                                 const Flag* junk, const Long* hidden_start, const Long* hidden, const Long* start,
                                 const double* distances, const Long* places, int* steps) {
    const Long row = first_row + item / columns, column = item % columns;
    const Long step = step_of(distances, places, start[row], start[row + 1], values[item], column);
    if (step == start[row + 1] || junk[column]) return;
    Long low = hidden_start[row], high = hidden_start[row + 1];
    while (low < high) {
        const Long middle = (low + high) / 2;
        if (hidden[middle] == column) return;
        (hidden[middle] < column ? low : high) = hidden[middle] < column ? middle + 1 : middle;
    }
    exec.add(steps + step + row, 1);
}

// ---- entries ------------------------------------------------------------------------------------------------------

#define JOINT_PARAMETERS const float *query, const float *gallery, Long num_query, int depth
#define JOINT (Joint{query, gallery, num_query, depth})
#define KEY_PARAMETERS                                                                                       \
    const float *products, Long stride, Long first, Long columns, const float *offset, const Long *q_groups, \
        const Long *g_groups
#define KEYS (Keys{products, stride, first, columns, offset, q_groups, g_groups})
#define FOUND_PARAMETERS int *counts, const Long *found_start, int *found_rows, int *found_cols, float *found_values
#define FOUND (Found{counts, found_start, found_rows, found_cols, found_values})
#define SET_PARAMETERS const int *lists, const Flag *member, const Flag *near, int width, int half
#define SETS (Sets{lists, member, near, width, half})
#define ROW_PARAMETERS const Long *start, const int *cols, const float *values
#define ROWS (Rows{start, cols, values})
#define BLEND_PARAMETERS ROW_PARAMETERS, const float *farthest, int power, double lambda
#define BLEND (Blend{ROWS, farthest, power, lambda})

LANE_KERNEL(squared_lengths, (JOINT_PARAMETERS, double* out), (JOINT, out))
LANE_KERNEL(measure,
            (JOINT_PARAMETERS, const double* squared, int cosine, const int* rows, const int* cols, Long first_row,
             Long first_col, float* out),
            (JOINT, squared, cosine, rows, cols, first_row, first_col, out))
KERNEL(finish_tile,
       (JOINT_PARAMETERS, const double* squared, int cosine, double close, const double* products, Long columns,
        Long first_row, Long first_col, float* out),
       (JOINT, squared, cosine, close, products, columns, first_row, first_col, out))
BLOCK_KERNEL(row_limits,
             (KEY_PARAMETERS, int k, float window, Long groups, float* minima, float* limits, float* far_limits),
             (KEYS, k, window, groups, minima, limits, far_limits))
BLOCK_KERNEL(collect, (KEY_PARAMETERS, int length, const float* limits, const float* far_limits, FOUND_PARAMETERS),
             (KEYS, length, limits, far_limits, FOUND))
KERNEL(place_best,
       (const float* listed, const int* listed_index, int length, Long listed_rows, const Long* start, const int* rows,
        const int* cols, const float* values, int k, float* out, int* out_index),
       (listed, listed_index, length, listed_rows, start, rows, cols, values, k, out, out_index))
KERNEL(raise_farthest, (const int* rows, const float* values, float* farthest), (rows, values, farthest))
KERNEL(mutual, (const int* lists, int width, int k, Flag* out), (lists, width, k, out))
KERNEL(join_sets, (SET_PARAMETERS, Flag* joins), (SETS, joins))
KERNEL(unite_sets, (SET_PARAMETERS, const Flag* joins, FOUND_PARAMETERS), (SETS, joins, FOUND))
KERNEL(sort_columns,
       (const Long* start, const int* rows, const int* cols, const float* values, int* out_cols, float* out_values),
       (start, rows, cols, values, out_cols, out_values))
KERNEL(listed_distances,
       (const int* rows, const int* cols, const int* lists, const float* distances, int width, float* out),
       (rows, cols, lists, distances, width, out))
KERNEL(set_weights, (const Long* start, const float* distances, const float* farthest, int power, float* out),
       (start, distances, farthest, power, out))
KERNEL(average_rows, (ROW_PARAMETERS, const int* neighbours, int k, FOUND_PARAMETERS), (ROWS, neighbours, k, FOUND))
KERNEL(overlap_rows,
       (ROW_PARAMETERS, Long num_query, Long first_query, Long first, const Long* column_start, const int* holders,
        FOUND_PARAMETERS),
       (ROWS, num_query, first_query, first, column_start, holders, FOUND))
KERNEL(blend_rows, (ROW_PARAMETERS, const float* farthest, Long columns, int power, double lambda, float* dense),
       (ROWS, farthest, columns, power, lambda, dense))
KERNEL(listed_values, (BLEND_PARAMETERS, const float* distances, const int* indices, int length, float* out),
       (BLEND, distances, indices, length, out))
KERNEL(nth_value, (const float* listed, int length, int places, float* limits), (listed, length, places, limits))
KERNEL(add_touched,
       (BLEND_PARAMETERS, Long num_query, const float* distances, const int* indices, int length, const float* limits,
        const Long* q_groups, const Long* g_groups, FOUND_PARAMETERS),
       (BLEND, num_query, distances, indices, length, limits, q_groups, g_groups, FOUND))
KERNEL(blend_pairs, (BLEND_PARAMETERS, const int* found_rows, const int* found_cols, float* found_values),
       (BLEND, found_rows, found_cols, found_values))
KERNEL(find_unsure,
       (const float* distances, int length, const float* best, int places, const float* farthest, int power,
        double lambda, Flag* unsure),
       (distances, length, best, places, farthest, power, lambda, unsure))
BLOCK_KERNEL(count_sure,
             (KEY_PARAMETERS, int length, Long first_row, const Long* start, const double* limits, double window,
              int* steps, FOUND_PARAMETERS),
             (KEYS, length, first_row, start, limits, window, steps, FOUND))
KERNEL(count_measured,
       (const int* rows, const int* cols, const float* values, Long first_row, const Long* start,
        const float* distances, const Long* places, int* steps),
       (rows, cols, values, first_row, start, distances, places, steps))
KERNEL(count_before,
       (const double* values, Long columns, Long first_row, const Flag* junk, const Long* hidden_start,
        const Long* hidden, const Long* start, const double* distances, const Long* places, int* steps),
       (values, columns, first_row, junk, hidden_start, hidden, start, distances, places, steps))
LANE_KERNEL(whole_rows,
            (JOINT_PARAMETERS, const double* squared, int cosine, BLEND_PARAMETERS, const Long* which, Long first_query,
             Long columns, const Long* q_groups, const Long* g_groups, float* out),
            (JOINT, squared, cosine, BLEND, which, first_query, columns, q_groups, g_groups, out))
