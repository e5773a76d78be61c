// The loops over bits, compiled by kernels_scalar.cpp and kernels_avx2.cpp, which say what the table is called
// (HASTEN_SPRINTZ_CODES).
#include "bits_impl.hpp"

namespace hasten::sprintz {
namespace {

#include "rice_impl.hpp"
#include "tokens_impl.hpp"

template <typename T>
constexpr CodeKernels<T> code_kernels() {
    return {count_tokens<T>, put_tokens<T>, take_tokens<T>, put_rice<T>, take_rice<T>};
}

}  // namespace

extern const Codes HASTEN_SPRINTZ_CODES;
const Codes HASTEN_SPRINTZ_CODES = {code_kernels<uint16_t>(), code_kernels<uint32_t>(), code_kernels<uint64_t>()};

}  // namespace hasten::sprintz
