// AVX2 and BMI2.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#define HASTEN_SPRINTZ_AVX2
#define HASTEN_SPRINTZ_KERNELS kernels_avx2
#define HASTEN_SPRINTZ_CODES codes_avx2
#include "codes_impl.hpp"
#include "kernels_impl.hpp"

namespace hasten::sprintz {

void put_tokens16_avx512(const uint16_t*, std::size_t, const uint8_t*, std::size_t, const Code (*)[kMaxTokens], uint8_t**,
                         uint32_t*);

const Codes codes_avx512 = {
    {count_tokens<uint16_t>, put_tokens16_avx512, take_tokens<uint16_t>, put_rice<uint16_t>, take_rice<uint16_t>},
    code_kernels<uint32_t>(),
    code_kernels<uint64_t>(),
};

}  // namespace hasten::sprintz
#endif
