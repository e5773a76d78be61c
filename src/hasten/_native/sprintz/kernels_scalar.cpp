// Any machine.
#define HASTEN_SPRINTZ_KERNELS kernels_scalar
#include "kernels_impl.hpp"
