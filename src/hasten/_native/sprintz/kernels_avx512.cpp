// AVX-512 of Skylake servers.
#include "../cpu_features.hpp"

#if defined(HASTEN_X86)
#define HASTEN_SPRINTZ_AVX2
#define HASTEN_SPRINTZ_KERNELS kernels_avx512
#define HASTEN_SPRINTZ_CODES codes_avx2
#include "kernels_impl.hpp"
#endif
