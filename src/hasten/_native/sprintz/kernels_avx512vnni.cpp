// AVX-512 of Ice Lake, Zen 4 and later, which shifts pairs of words (VBMI2).
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#define HASTEN_SPRINTZ_AVX512
#define HASTEN_SPRINTZ_KERNELS kernels_avx512vnni
#define HASTEN_SPRINTZ_CODES codes_avx512
#include "kernels_impl.hpp"
#endif
