// The instruction set that a caller in Python names.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "dispatch.hpp"

namespace hasten {

// Running a variant that the CPU lacks would kill the process, so the name is checked here too, not only in Python.
inline Isa require_isa(const char* name) {
    const auto isa = isa_from_name(name);
    if (!isa) throw nanobind::value_error((std::string("isa: unknown instruction set '") + name + "'").c_str());
    if (!isa_available(*isa)) {
        throw nanobind::value_error((std::string("isa: this CPU or operating system has no ") + name).c_str());
    }
    return *isa;
}

}  // namespace hasten
