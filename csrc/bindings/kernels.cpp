// stcanet_runtime._kernels: converts, checks, releases the GIL, calls the core.
#include <pybind11/stl.h>

#include <optional>

#include "arrays.hpp"
#include "stcanet/topk.hpp"

namespace stcanet::bindings {

void bind_evaluate(py::module_& m);  // kernels_evaluate.cpp
void bind_rerank(py::module_& m);    // kernels_rerank.cpp
void bind_resize(py::module_& m);    // kernels_resize.cpp

namespace {

py::array_t<float> distance_matrix(const py::array& query, const py::array& gallery, const std::string& metric_name,
                                   std::size_t scratch, std::size_t threads, const std::string& isa) {
    const Features q = any_features(query, "query"), g = any_features(gallery, "gallery");
    require_same_depth(q, g);
    const Metric which = metric(metric_name);
    const Options options{find_kernels(isa), threads};
    py::array_t<float> result({q.rows, g.rows});
    const Matrix<float> out = output(result);
    {
        const py::gil_scoped_release release;
        stcanet::distance_matrix(q, g, which, options, scratch, out, watch_signals());
    }
    return result;
}

py::tuple top_k(const py::array& query, const py::array& gallery, std::size_t k, const std::string& metric_name,
                const std::optional<IndexArray>& q_groups, const std::optional<IndexArray>& g_groups,
                std::size_t scratch, std::size_t threads, const std::string& isa) {
    const Features q = any_features(query, "query"), g = any_features(gallery, "gallery");
    require_same_depth(q, g);
    require_indexable(g.rows);
    const Metric which = metric(metric_name);
    const Groups groups = as_groups(q_groups, g_groups, q.rows, g.rows);
    const Options options{find_kernels(isa), threads};
    py::array_t<float> distances({q.rows, k});
    py::array_t<std::int64_t> indices({q.rows, k});
    const Matrix<float> out_distances = output(distances);
    const Matrix<std::int64_t> out_indices = output(indices);
    {
        const py::gil_scoped_release release;
        stcanet::top_k(q, g, which, groups, options, scratch, out_distances, out_indices, watch_signals());
    }
    return py::make_tuple(distances, indices);
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels* kernels : supported_kernels()) names.emplace_back(kernels->name);
    return names;
}

}  // namespace
}  // namespace stcanet::bindings

PYBIND11_MODULE(_kernels, m) {
    using namespace stcanet::bindings;
    using py::arg;
    m.doc() = "C++ kernels of stcanet_runtime; use them through stcanet_runtime.backends.";
    m.def("distance_matrix", &distance_matrix, arg("query").noconvert(), arg("gallery").noconvert(), arg("metric"),
          arg("scratch_bytes"), arg("threads") = 0, arg("isa") = "");
    m.def("top_k", &top_k, arg("query").noconvert(), arg("gallery").noconvert(), arg("k"), arg("metric"),
          arg("q_groups").noconvert(), arg("g_groups").noconvert(), arg("scratch_bytes"), arg("threads") = 0,
          arg("isa") = "");
    m.def("instruction_sets", &instruction_sets);
    bind_evaluate(m);
    bind_rerank(m);
    bind_resize(m);
}
