// From NumPy arrays to views: checks here, so that the core never sees a wrong shape.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "stcanet/distance.hpp"
#include "stcanet/views.hpp"

namespace stcanet::bindings {

namespace py = pybind11;

// No forcecast: an array of another type is a mistake of the caller, not something to copy silently.
using FloatArray = py::array_t<float, py::array::c_style>;
using IndexArray = py::array_t<std::int64_t, py::array::c_style>;

inline void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

inline std::string shape_of(const py::array& array) { return py::str(array.attr("shape")).cast<std::string>(); }

// A view of no data yet.
inline Features shaped(const py::array& array, const char* name) {
    if (array.ndim() != 2 || array.shape(1) == 0)
        throw py::value_error(std::string(name) + " must have shape [N, D] with D >= 1, got " + shape_of(array));
    return {nullptr, static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1))};
}

inline Features features(const FloatArray& array, const char* name) {
    Features view = shaped(array, name);
    view.data = array.data();
    return view;
}

// Also float16, which pybind11 has no type for; the array must live as long as the view.
inline Features any_features(const py::array& array, const char* name) {
    if (py::isinstance<FloatArray>(array)) return features(py::reinterpret_borrow<FloatArray>(array), name);
    if (array.dtype().kind() != 'f' || array.itemsize() != 2 || (array.flags() & py::array::c_style) == 0)
        throw py::type_error(std::string(name) + " must be a contiguous float32 or float16 array");
    Features view = shaped(array, name);
    view.half = static_cast<const std::uint16_t*>(array.data());
    return view;
}

// Lists hold indices of 32 bits.
inline void require_indexable(std::size_t rows) { require(rows <= 0x7FFFFFFF, "at most 2^31 - 1 rows"); }

inline void require_same_depth(Features query, Features gallery) {
    if (query.cols != gallery.cols)
        throw py::value_error("query and gallery must have the same D, got " + std::to_string(query.cols) + " and " +
                              std::to_string(gallery.cols));
}

inline const std::int64_t* group_ids(const IndexArray& array, std::size_t rows, const char* name) {
    if (array.ndim() != 1 || static_cast<std::size_t>(array.shape(0)) != rows)
        throw py::value_error(std::string(name) + " must have shape [" + std::to_string(rows) + "], got " +
                              shape_of(array));
    return array.data();
}

// Both or neither.
inline Groups as_groups(const std::optional<IndexArray>& query, const std::optional<IndexArray>& gallery,
                        std::size_t num_query, std::size_t num_gallery) {
    if (query.has_value() != gallery.has_value()) throw py::value_error("q_groups and g_groups must be given together");
    if (!query) return {};
    return {group_ids(*query, num_query, "q_groups"), group_ids(*gallery, num_gallery, "g_groups")};
}

inline Metric metric(const std::string& name) {
    if (name == "cosine") return Metric::cosine;
    if (name == "euclidean") return Metric::euclidean;
    throw py::value_error("metric must be 'cosine' or 'euclidean', got '" + name + "'");
}

// An empty name takes the best instruction set.
inline const Kernels* find_kernels(const std::string& isa) {
    const auto supported = supported_kernels();
    if (isa.empty()) return supported.back();
    std::string names;
    for (const Kernels* kernels : supported) {
        if (isa == kernels->name) return kernels;
        names += (names.empty() ? "" : ", ") + std::string(kernels->name);
    }
    throw py::value_error("instruction set '" + isa + "' is not available here; available: " + names);
}

// Runs between blocks on the calling thread: lets Ctrl-C through, and an exception of `progress`.
inline std::function<void(std::size_t, std::size_t)> watch(const py::object& progress) {
    return [&progress](std::size_t done, std::size_t total) {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        if (!progress.is_none()) progress(done, total);
    };
}

// The same for calls that report nothing. Only now and then: units may be short, and while other threads compute in
// Python, the GIL takes milliseconds to come. What is called for every frame of a video and mostly done by then does
// not look at once.
inline Watch watch_signals(bool at_once = true) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::milliseconds pause(20);
    return [=, next = at_once ? Clock::time_point::min() : Clock::now() + pause](std::size_t) mutable {
        if (Clock::now() < next) return;
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        next = Clock::now() + pause;
    };
}

template <typename T, int Flags>
Matrix<T> output(py::array_t<T, Flags>& array) {
    return {array.mutable_data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1))};
}

}  // namespace stcanet::bindings
