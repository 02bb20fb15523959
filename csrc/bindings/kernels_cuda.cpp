// stcanet_runtime._kernels_cuda: links the static CUDA runtime, so that it imports on a machine without CUDA or GPU.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "stcanet/cuda_channel_attention.hpp"
#include "stcanet/cuda_part_relation.hpp"

namespace stcanet::bindings {
namespace py = pybind11;
namespace {

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // it would be that of the next launch, too
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

// A device pointer as PyTorch and CuPy give it.
using Pointer = std::uintptr_t;

template <typename T>
T* to_pointer(Pointer address) {
    return reinterpret_cast<T*>(address);  // NOLINT: that is what a device pointer is in Python
}

cuda::Precision precision(const std::string& name) {
    if (name == "fp16") return cuda::Precision::fp16;
    if (name == "bf16") return cuda::Precision::bf16;
    if (name == "tf32") return cuda::Precision::tf32;
    if (name == "tf32x3") return cuda::Precision::tf32x3;
    throw py::value_error("precision must be 'fp16', 'bf16', 'tf32' or 'tf32x3', got '" + name + "'");
}

using Sizes = std::array<std::size_t, 3>;

cuda::ChannelShape channel_shape(const Sizes& sizes) {
    return {to_int(sizes[0], "B"), to_int(sizes[1], "R"), to_int(sizes[2], "P")};
}

void channel_forward(Pointer rows, Pointer mixed, Pointer log_sum, const Sizes& shape, const std::string& how,
                     int device, Pointer stream) {
    check(cudaSetDevice(device), "choosing the device");
    check(cuda::channel_forward(to_pointer<void>(rows), to_pointer<void>(mixed), to_pointer<float>(log_sum),
                                channel_shape(shape), precision(how), to_pointer<CUstream_st>(stream)),
          "launching the channel attention");
}

void channel_backward(Pointer rows, Pointer mixed, Pointer log_sum, Pointer grad_mixed, Pointer grad_rows,
                      Pointer scratch, const Sizes& shape, const std::string& how, int device, Pointer stream) {
    check(cudaSetDevice(device), "choosing the device");
    check(cuda::channel_backward(to_pointer<void>(rows), to_pointer<void>(mixed), to_pointer<float>(log_sum),
                                 to_pointer<void>(grad_mixed), to_pointer<void>(grad_rows), to_pointer<float>(scratch),
                                 channel_shape(shape), precision(how), to_pointer<CUstream_st>(stream)),
          "launching the gradient of the channel attention");
}

cuda::RelationShape relation_shape(const Sizes& sizes) {
    return {to_int(sizes[0], "B"), to_int(sizes[1], "M"), to_int(sizes[2], "D")};
}

cuda::Storage storage(const std::string& name) {
    if (name == "fp32") return cuda::Storage::fp32;
    if (name == "fp16") return cuda::Storage::fp16;
    if (name == "bf16") return cuda::Storage::bf16;
    throw py::value_error("storage must be 'fp32', 'fp16' or 'bf16', got '" + name + "'");
}

void relation_forward(Pointer nodes, Pointer weight, Pointer out, const Sizes& shape, const std::string& stored,
                      int device, Pointer stream) {
    check(cudaSetDevice(device), "choosing the device");
    check(cuda::relation_forward(to_pointer<void>(nodes), to_pointer<float>(weight), to_pointer<float>(out),
                                 relation_shape(shape), storage(stored), to_pointer<CUstream_st>(stream)),
          "launching the part relation");
}

void relation_backward(Pointer nodes, Pointer weight, Pointer grad, Pointer grad_nodes, Pointer grad_weight,
                       const Sizes& shape, const std::string& stored, int device, Pointer stream) {
    check(cudaSetDevice(device), "choosing the device");
    check(cuda::relation_backward(to_pointer<void>(nodes), to_pointer<float>(weight), to_pointer<float>(grad),
                                  to_pointer<void>(grad_nodes), to_pointer<float>(grad_weight), relation_shape(shape),
                                  storage(stored), to_pointer<CUstream_st>(stream)),
          "launching the gradient of the part relation");
}

}  // namespace
}  // namespace stcanet::bindings

PYBIND11_MODULE(_kernels_cuda, m) {
    using namespace stcanet::bindings;
    using py::arg;
    m.doc() = "CUDA kernels of stcanet_runtime. Imports everywhere; calls need a device.";
    m.def("device_count", &device_count);
    // Pointers and streams are numbers, as `tensor.data_ptr()` and `stream.cuda_stream` give them.
    m.def("channel_forward", &channel_forward, arg("rows"), arg("mixed"), arg("log_sum"), arg("shape"),
          arg("precision"), arg("device"), arg("stream"));
    m.def("channel_backward", &channel_backward, arg("rows"), arg("mixed"), arg("log_sum"), arg("grad_mixed"),
          arg("grad_rows"), arg("scratch"), arg("shape"), arg("precision"), arg("device"), arg("stream"));
    m.def("relation_forward", &relation_forward, arg("nodes"), arg("weight"), arg("out"), arg("shape"), arg("storage"),
          arg("device"), arg("stream"));
    m.def("relation_backward", &relation_backward, arg("nodes"), arg("weight"), arg("grad"), arg("grad_nodes"),
          arg("grad_weight"), arg("shape"), arg("storage"), arg("device"), arg("stream"));
}
