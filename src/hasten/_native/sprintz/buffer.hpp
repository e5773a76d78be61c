// Memory of Python objects, by the buffer protocol: arrays of the other protocols must be aligned, and take longer to get.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hasten::sprintz {

namespace nb = nanobind;

// One dimension of any buffer, whatever its stride and alignment, as long as this lives.
class Buffer {
public:
    Buffer(nb::handle from, bool writable) {
        const int flags = PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(from.ptr(), &view_, flags) != 0) throw nb::python_error();
        if (view_.ndim != 1) {
            PyBuffer_Release(&view_);
            throw nb::value_error("tsz: expected arrays of one dimension");
        }
        size_ = static_cast<std::size_t>(view_.shape[0]);
        stride_ = view_.strides[0];
    }
    // Of bytes, for one, shape and strides point into the view itself.
    Buffer(Buffer&& other) noexcept : view_(other.view_), size_(other.size_), stride_(other.stride_) {
        other.view_.obj = nullptr;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        if (view_.obj) PyBuffer_Release(&view_);
    }

    uint8_t* data() const { return static_cast<uint8_t*>(view_.buf); }
    std::size_t size() const { return size_; }
    std::size_t itemsize() const {
        const auto size = static_cast<std::size_t>(view_.itemsize);
        if (size != 1 && size != 2 && size != 4 && size != 8) throw nb::value_error("tsz: items of 1, 2, 4 or 8 bytes");
        return size;
    }
    std::ptrdiff_t stride() const { return stride_; }

private:
    Py_buffer view_;
    std::size_t size_ = 0;
    std::ptrdiff_t stride_ = 0;
};

// Bytes, whatever they are called. Those that somebody could change while they are read are copied: what was checked has
// to be what is decoded.
class ByteView {
public:
    explicit ByteView(nb::handle from, bool copy = false) {
        if (PyObject_GetBuffer(from.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
        if (copy && !view_.readonly) copy_.assign(start(), start() + size());
        data_ = copy_.empty() ? start() : copy_.data();
    }
    ByteView(const ByteView&) = delete;
    ByteView& operator=(const ByteView&) = delete;
    ~ByteView() { PyBuffer_Release(&view_); }

    const uint8_t* data() const { return data_; }
    std::size_t size() const { return static_cast<std::size_t>(view_.len); }

private:
    const uint8_t* start() const { return static_cast<const uint8_t*>(view_.buf); }

    Py_buffer view_;
    std::vector<uint8_t> copy_;
    const uint8_t* data_ = nullptr;
};

}  // namespace hasten::sprintz
