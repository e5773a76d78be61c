// AVX-512 of Skylake servers.
#include "avx512.hpp"

#if defined(HASTEN_X86)
namespace hasten::maddness {
extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = {encode, sums, finish, shuffles};
}  // namespace hasten::maddness
#endif
