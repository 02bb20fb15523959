// The re-ranking part of stcanet_runtime._kernels.
#include <pybind11/stl.h>

#include <optional>
#include <tuple>

#include "arrays.hpp"
#include "stcanet/kreciprocal.hpp"
#include "stcanet/neighbours.hpp"
#include "stcanet/reranked.hpp"

namespace stcanet::bindings {
namespace {

using ListArray = py::array_t<std::int32_t, py::array::c_style>;

using ListOutputs = std::tuple<FloatArray, IndexArray, std::optional<IndexArray>, std::optional<IndexArray>>;

GalleryLists gallery_lists(std::optional<ListOutputs>& given, Features query, Features gallery) {
    if (!given) return {};
    auto& [distances, indices, q_groups, g_groups] = *given;
    require(distances.ndim() == 2 && indices.ndim() == 2, "lists must have shape [Q, L]");
    const GalleryLists lists{output(distances), output(indices),
                             as_groups(q_groups, g_groups, query.rows, gallery.rows)};
    require(lists.distances.rows == query.rows && lists.indices.rows == query.rows && lists.distances.cols >= 1 &&
                lists.indices.cols == lists.distances.cols,
            "lists must have shape [Q, L]");
    return lists;
}

py::tuple neighbours(const FloatArray& query, const FloatArray& gallery, std::size_t k, const std::string& metric_name,
                     std::optional<FloatArray> dense, std::optional<ListOutputs> lists, const py::object& progress,
                     std::size_t scratch, std::size_t threads, const std::string& isa) {
    const Features q = features(query, "query"), g = features(gallery, "gallery");
    require_same_depth(q, g);
    const std::size_t n = q.rows + g.rows;
    require(k >= 1 && k <= n, "k must be between 1 and the number of rows");
    require_indexable(n);
    const Metric which = metric(metric_name);
    const Options options{find_kernels(isa), threads};
    Matrix<float> out;
    if (dense) {
        require(dense->ndim() == 2, "dense must have shape [Q, G]");
        out = output(*dense);
        require(out.rows == q.rows && out.cols == g.rows, "dense must have shape [Q, G]");
    }
    const GalleryLists wanted = gallery_lists(lists, q, g);
    ListArray indices({n, k});
    py::array_t<float> distances({n, k}), farthest(static_cast<py::ssize_t>(n));
    const Neighbours result{output(indices), output(distances), farthest.mutable_data()};
    {
        const py::gil_scoped_release release;
        stcanet::neighbours(q, g, which, options, scratch, result, out, wanted, watch(progress), watch_signals());
    }
    return py::make_tuple(indices, distances, farthest);
}

py::array_t<float> pair_distances(const FloatArray& query, const FloatArray& gallery, const IndexArray& rows,
                                  const IndexArray& cols, const std::string& metric_name, std::size_t threads,
                                  const std::string& isa) {
    const Features q = features(query, "query"), g = features(gallery, "gallery");
    require_same_depth(q, g);
    require(rows.ndim() == 1 && cols.ndim() == 1 && rows.size() == cols.size(), "rows and cols must both be [P]");
    const auto n = static_cast<std::int64_t>(q.rows + g.rows);
    for (const IndexArray* list : {&rows, &cols})
        for (py::ssize_t p = 0; p < list->size(); ++p)
            require(list->data()[p] >= 0 && list->data()[p] < n, "rows and cols must be indices of the joint set");
    const Metric which = metric(metric_name);
    const Options options{find_kernels(isa), threads};
    py::array_t<float> result(rows.size());
    float* out = result.mutable_data();
    {
        const py::gil_scoped_release release;
        stcanet::pair_distances(q, g, which, options, rows.data(), cols.data(), static_cast<std::size_t>(rows.size()),
                                out, watch_signals());
    }
    return result;
}

py::tuple smallest(const FloatArray& values, std::size_t k, std::size_t threads) {
    require(values.ndim() == 2, "values must have shape [R, N]");
    const Features rows{values.data(), static_cast<std::size_t>(values.shape(0)),
                        static_cast<std::size_t>(values.shape(1))};
    require(k >= 1 && k <= rows.cols, "k must be between 1 and N");
    require_indexable(rows.cols);
    py::array_t<float> found({rows.rows, k});
    ListArray indices({rows.rows, k});
    const Matrix<float> out = output(found);
    const Matrix<std::int32_t> out_indices = output(indices);
    {
        const py::gil_scoped_release release;
        stcanet::smallest(rows, k, threads, out, out_indices, watch_signals());
    }
    return py::make_tuple(found, indices);
}

Lists lists(const ListArray& array, std::size_t rows) {
    require(array.ndim() == 2 && array.shape(1) >= 1, "neighbours must have shape [N, K] with K >= 1");
    const Lists view{array.data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1))};
    for (py::ssize_t e = 0; e < array.size(); ++e)
        require(view.data[e] >= 0 && static_cast<std::size_t>(view.data[e]) < rows, "neighbours must be rows");
    return view;
}

SparseView sparse(const IndexArray& start, const ListArray& indices, const FloatArray& values, std::size_t columns) {
    require(start.ndim() == 1 && start.size() >= 1 && indices.ndim() == 1 && values.ndim() == 1, "not a sparse matrix");
    const std::int64_t* s = start.data();
    require(s[0] == 0 && s[start.size() - 1] == indices.size() && values.size() == indices.size(),
            "indptr, indices and values do not fit");
    for (py::ssize_t i = 1; i < start.size(); ++i) require(s[i - 1] <= s[i], "indptr must not descend");
    for (py::ssize_t e = 0; e < indices.size(); ++e)
        require(indices.data()[e] >= 0 && static_cast<std::size_t>(indices.data()[e]) < columns, "a column is outside");
    return {s, indices.data(), values.data(), static_cast<std::size_t>(start.size() - 1)};
}

template <typename T>
py::array_t<T> to_array(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple expand(const ListArray& neighbours, std::size_t half, std::size_t threads) {
    const Lists view = lists(neighbours, static_cast<std::size_t>(neighbours.shape(0)));
    SparseRows rows;
    {
        const py::gil_scoped_release release;
        rows = stcanet::expand(view, half, threads, watch_signals());
    }
    return py::make_tuple(to_array(rows.start), to_array(rows.indices));
}

py::tuple average(const IndexArray& indptr, const ListArray& indices, const FloatArray& values,
                  const ListArray& neighbours, std::size_t threads) {
    const SparseView view = sparse(indptr, indices, values, static_cast<std::size_t>(indptr.size() - 1));
    const Lists means = lists(neighbours, view.rows);
    SparseRows rows;
    {
        const py::gil_scoped_release release;
        rows = stcanet::average(view, means, threads, watch_signals());
    }
    return py::make_tuple(to_array(rows.start), to_array(rows.indices), to_array(rows.values));
}

py::tuple overlaps(const IndexArray& indptr, const ListArray& indices, const FloatArray& values, std::size_t num_query,
                   std::size_t start, std::optional<std::size_t> stop, std::size_t threads) {
    const SparseView view = sparse(indptr, indices, values, static_cast<std::size_t>(indptr.size() - 1));
    const std::size_t last = stop.value_or(num_query);
    require(start <= last && last <= num_query && num_query <= view.rows, "start <= stop <= num_query <= N");
    SparseRows rows;
    {
        const py::gil_scoped_release release;
        rows = stcanet::overlaps(view, num_query, start, last, threads, watch_signals());
    }
    return py::make_tuple(to_array(rows.start), to_array(rows.indices), to_array(rows.values));
}

void blend(FloatArray distances, const IndexArray& indptr, const ListArray& columns, const FloatArray& overlap,
           const FloatArray& farthest, int power, double lambda_value, std::size_t threads) {
    require(distances.ndim() == 2, "distances must have shape [R, G]");
    const Matrix<float> out = output(distances);
    const SparseView view = sparse(indptr, columns, overlap, out.cols);
    require(view.rows == out.rows && farthest.ndim() == 1 && static_cast<std::size_t>(farthest.size()) == out.rows,
            "distances, overlaps and farthest must have the same rows");
    require(power == 1 || power == 2 || power == 4, "power must be 1, 2 or 4");
    const float* scale = farthest.data();
    const py::gil_scoped_release release;
    stcanet::blend(out, view, scale, power, lambda_value, threads, watch_signals());
}

py::tuple select_best(const FloatArray& query, const FloatArray& gallery, const std::string& metric_name,
                      const IndexArray& indptr, const ListArray& indices, const FloatArray& values,
                      const FloatArray& farthest, std::optional<ListOutputs> listed, std::size_t places, int power,
                      double lambda_value, const py::object& progress, std::size_t threads, const std::string& isa) {
    const Features q = features(query, "query"), g = features(gallery, "gallery");
    require_same_depth(q, g);
    require_indexable(q.rows + g.rows);
    const SparseView rows = sparse(indptr, indices, values, q.rows + g.rows);
    require(
        rows.rows == q.rows + g.rows && farthest.ndim() == 1 && static_cast<std::size_t>(farthest.size()) == rows.rows,
        "rows and farthest must be of the joint set");
    require(power == 1 || power == 2 || power == 4, "power must be 1, 2 or 4");
    require(listed.has_value() && places >= 1, "lists and places are needed");
    const GalleryLists lists = gallery_lists(listed, q, g);
    const std::size_t length = lists.distances.cols;
    require(length <= g.rows && places <= length, "places <= L <= G");
    for (std::size_t e = 0; e < q.rows * length; ++e)
        require(lists.indices.data[e] < static_cast<std::int64_t>(g.rows), "lists must hold gallery rows");
    const Metric which = metric(metric_name);
    const Options options{find_kernels(isa), threads};
    py::array_t<float> distances({q.rows, places});
    py::array_t<std::int64_t> found({q.rows, places});
    const Best best{output(distances), output(found)};
    const float* largest = farthest.data();
    {
        const py::gil_scoped_release release;
        stcanet::select_best(q, g, which, options, rows, largest, power, lambda_value, lists, best, watch(progress),
                             watch_signals());
    }
    return py::make_tuple(distances, found);
}

}  // namespace

void bind_rerank(py::module_& m) {
    using py::arg;
    m.def("neighbours", &neighbours, arg("query").noconvert(), arg("gallery").noconvert(), arg("k"), arg("metric"),
          arg("dense").noconvert(), arg("lists").noconvert(), arg("progress"), arg("scratch_bytes"), arg("threads") = 0,
          arg("isa") = "");
    m.def("pair_distances", &pair_distances, arg("query").noconvert(), arg("gallery").noconvert(),
          arg("rows").noconvert(), arg("cols").noconvert(), arg("metric"), arg("threads") = 0, arg("isa") = "");
    m.def("smallest", &smallest, arg("values").noconvert(), arg("k"), arg("threads") = 0);
    m.def("expand", &expand, arg("neighbours").noconvert(), arg("half"), arg("threads") = 0);
    m.def("average", &average, arg("indptr").noconvert(), arg("indices").noconvert(), arg("values").noconvert(),
          arg("neighbours").noconvert(), arg("threads") = 0);
    m.def("overlaps", &overlaps, arg("indptr").noconvert(), arg("indices").noconvert(), arg("values").noconvert(),
          arg("num_query"), arg("start") = 0, arg("stop") = py::none(), arg("threads") = 0);
    m.def("blend", &blend, arg("distances").noconvert(), arg("indptr").noconvert(), arg("columns").noconvert(),
          arg("overlap").noconvert(), arg("farthest").noconvert(), arg("power"), arg("lambda_value"),
          arg("threads") = 0);
    m.def("select_best", &select_best, arg("query").noconvert(), arg("gallery").noconvert(), arg("metric"),
          arg("indptr").noconvert(), arg("indices").noconvert(), arg("values").noconvert(), arg("farthest").noconvert(),
          arg("lists").noconvert(), arg("places"), arg("power"), arg("lambda_value"), arg("progress") = py::none(),
          arg("threads") = 0, arg("isa") = "");
}

}  // namespace stcanet::bindings
