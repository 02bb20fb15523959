// stcanet_runtime._kernels_cuda: links the static CUDA runtime, so that it imports on a machine without CUDA or GPU.
#include <limits>
#include <memory>

#include "arrays.hpp"
#include "stcanet/cuda_distance.hpp"

namespace stcanet::bindings {
namespace {

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("CUDA: ") + what + " failed: " + cudaGetErrorString(status));
}

int device_count() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    // These two are the answer "none" and not a failure.
    if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) return 0;
    check(status, "counting devices");
    return count;
}

int to_int(std::size_t n, const char* name) {
    if (n > static_cast<std::size_t>(std::numeric_limits<int>::max() - 64))
        throw py::value_error(std::string(name) + " is too large for the CUDA kernel: " + std::to_string(n));
    return static_cast<int>(n);
}

struct DeviceFree {
    void operator()(float* pointer) const { cudaFree(pointer); }
};
using DeviceArray = std::unique_ptr<float, DeviceFree>;

DeviceArray allocate(std::size_t count) {
    void* pointer = nullptr;
    check(cudaMalloc(&pointer, count * sizeof(float)), "allocating device memory");
    return DeviceArray(static_cast<float*>(pointer));
}

DeviceArray upload(Features x) {
    DeviceArray copy = allocate(x.rows * x.cols);
    check(cudaMemcpy(copy.get(), x.data, x.rows * x.cols * sizeof(float), cudaMemcpyHostToDevice),
          "copying to the device");
    return copy;
}

py::array_t<float> distance_matrix(const FloatArray& query, const FloatArray& gallery, const std::string& metric_name) {
    const Features q = features(query, "query"), g = features(gallery, "gallery");
    require_same_depth(q, g);
    const Metric which = metric(metric_name);
    const int rows = to_int(q.rows, "Q"), cols = to_int(g.rows, "G"), depth = to_int(q.cols, "D");
    if (device_count() == 0) throw std::runtime_error("CUDA: no device; a GPU with a working driver is needed");
    py::array_t<float> result({q.rows, g.rows});
    const Matrix<float> host = output(result);
    if (rows == 0 || cols == 0) return result;
    {
        const py::gil_scoped_release release;
        const DeviceArray device_q = upload(q), device_g = upload(g), device_out = allocate(host.rows * host.cols);
        check(
            cuda::distance_matrix(device_q.get(), device_g.get(), device_out.get(), rows, cols, depth, which, nullptr),
            "launching the distance kernel");
        check(cudaMemcpy(host.data, device_out.get(), host.rows * host.cols * sizeof(float), cudaMemcpyDeviceToHost),
              "computing the distance matrix");
    }
    return result;
}

}  // namespace
}  // namespace stcanet::bindings

PYBIND11_MODULE(_kernels_cuda, m) {
    using namespace stcanet::bindings;
    using py::arg;
    m.doc() = "CUDA kernels of stcanet_runtime. Imports everywhere; calls need a device.";
    m.def("device_count", &device_count);
    m.def("distance_matrix", &distance_matrix, arg("query").noconvert(), arg("gallery").noconvert(), arg("metric"));
}
