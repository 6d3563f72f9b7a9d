// The model in TensorFlow Lite Micro: one image in, one answer out, and further outputs if it has
// some.
#pragma once

#include <cstddef>
#include <cstdint>

#include "answer.h"

namespace edgekd {

enum class Status {
  kReady,
  kSchema,     // the model is of another schema version than the runtime
  kOperators,  // op_resolver.h lacks an operator, or its kernels are not linked
  kArena,      // kArenaBytes in contract.h is too small
  kTensors,    // the model's tensors differ from contract.h
  kInvoke,     // the model did not run
};

// Call it once. It prepares the model in a static arena of kArenaBytes.
Status Begin();

// Output codes for kPixels bytes: rows from top to bottom, in each pixel the channels in order.
// The pointer holds until the next call; it is null when the model did not run.
const int8_t* Codes(const uint8_t* pixels);

// Codes of the output kFurtherOutputs[place] of contract.h for the image that Codes was given last.
// The pointer holds until the next call of Codes; it is null for a place that the model has not.
const int8_t* FurtherCodes(int place);

// The arena that the model really took; print it, and lower kArenaBytes to it.
size_t ArenaUsed();

}  // namespace edgekd
