// The evaluation part of stcanet_runtime._kernels.
#include <algorithm>

#include "arrays.hpp"
#include "stcanet/closer.hpp"
#include "stcanet/ranks.hpp"

namespace stcanet::bindings {
namespace {

void require_lists(const IndexArray& start, py::ssize_t entries, std::size_t queries, const char* name) {
    const std::string what = std::string("the starts of ") + name;
    if (start.ndim() != 1 || static_cast<std::size_t>(start.size()) != queries + 1)
        throw py::value_error(what + " must have shape [Q + 1], got " + shape_of(start));
    const std::int64_t* s = start.data();
    if (s[0] != 0 || s[queries] != entries || !std::is_sorted(s, s + queries + 1))
        throw py::value_error(what + " must ascend from 0 to their number");
}

const std::int64_t* gallery_indices(const IndexArray& indices, std::size_t gallery, const char* name) {
    const std::int64_t *begin = indices.data(), *end = begin + indices.size();
    const auto outside = [&](std::int64_t j) { return j < 0 || static_cast<std::size_t>(j) >= gallery; };
    if (indices.ndim() != 1 || std::any_of(begin, end, outside))
        throw py::value_error(std::string(name) + " must be a list of gallery indices");
    return begin;
}

// The ranks, or None when a distance is NaN.
template <typename Real>
py::object ranks(const py::array_t<Real, py::array::c_style>& distances, const IndexArray& match_start,
                 const IndexArray& matches, const IndexArray& hidden_start, const IndexArray& hidden,
                 const IndexArray& junk, std::size_t threads, const std::string& isa) {
    if (distances.ndim() != 2) throw py::value_error("distances must have shape [Q, G], got " + shape_of(distances));
    const auto rows = static_cast<std::size_t>(distances.shape(0)), cols = static_cast<std::size_t>(distances.shape(1));
    require_lists(match_start, matches.size(), rows, "matches");
    require_lists(hidden_start, hidden.size(), rows, "hidden");
    const Truth truth{{match_start.data(), gallery_indices(matches, cols, "matches")},
                      {hidden_start.data(), gallery_indices(hidden, cols, "hidden")},
                      gallery_indices(junk, cols, "junk"),
                      static_cast<std::size_t>(junk.size())};
    const Options options{find_kernels(isa), threads};
    IndexArray result(matches.size());
    std::int64_t* out = result.mutable_data();
    bool sound = false;
    {
        const py::gil_scoped_release release;
        sound = stcanet::ranks<Real>({distances.data(), rows, cols}, truth, options, out, watch_signals());
    }
    return sound ? py::object(result) : py::none();
}

IndexArray count_closer(const FloatArray& query, const FloatArray& gallery, const IndexArray& start,
                        const FloatArray& distances, const IndexArray& places, const std::string& metric_name,
                        const py::object& progress, std::size_t scratch, std::size_t threads, const std::string& isa) {
    const Features q = features(query, "query"), g = features(gallery, "gallery");
    require_same_depth(q, g);
    require_lists(start, distances.size(), q.rows, "thresholds");
    if (distances.ndim() != 1 || places.ndim() != 1 || distances.size() != places.size())
        throw py::value_error("distances and places must both be [M]");
    const Metric which = metric(metric_name);
    const Options options{find_kernels(isa), threads};
    IndexArray result(distances.size());
    std::int64_t* counts = result.mutable_data();
    std::fill_n(counts, result.size(), 0);
    {
        const py::gil_scoped_release release;
        stcanet::count_closer(q, g, which, {start.data(), distances.data(), places.data()}, options, scratch, counts,
                              watch(progress), watch_signals());
    }
    return result;
}

}  // namespace

void bind_evaluate(py::module_& m) {
    using py::arg;
    const auto def_ranks = [&](auto function) {
        m.def("ranks", function, arg("distances").noconvert(), arg("match_start").noconvert(),
              arg("matches").noconvert(), arg("hidden_start").noconvert(), arg("hidden").noconvert(),
              arg("junk").noconvert(), arg("threads") = 0, arg("isa") = "");
    };
    def_ranks(&ranks<float>);
    def_ranks(&ranks<double>);
    m.def("count_closer", &count_closer, arg("query").noconvert(), arg("gallery").noconvert(), arg("start").noconvert(),
          arg("distances").noconvert(), arg("places").noconvert(), arg("metric"), arg("progress") = py::none(),
          arg("scratch_bytes"), arg("threads") = 0, arg("isa") = "");
}

}  // namespace stcanet::bindings
