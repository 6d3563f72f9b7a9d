// The golden images of the bundle through the model on this board.
#pragma once

namespace edgekd {

// The largest difference from the stored output codes, in steps of int8; -1 when the model did not
// run. Kernels may round in other places than those that made the stored codes: kToleranceSteps in
// golden_data.h is what the bundle allows.
int SelfTest();

}  // namespace edgekd
