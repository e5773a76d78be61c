#include "bind.hpp"

namespace hasten::sprintz {

void bind_v0(nanobind::module_&) {}

}  // namespace hasten::sprintz
