// Generic kernels whose screen multiplies bfloat16 on a model of AMX.
#pragma once

#include "stcanet/isa.hpp"

namespace stcanet::amx_model {

Kernels kernels();

}  // namespace stcanet::amx_model
