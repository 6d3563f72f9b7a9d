// What every board does: prepare the model, test it, and say what came of it.
#pragma once

#include <cstdio>

#include "classifier.h"
#include "golden_data.h"
#include "self_test.h"

namespace edgekd {

// Whether the model may be used. It is not where an answer of the self-test differs.
inline bool Ready() {
  const Status status = Begin();
  if (status != Status::kReady) {
    std::printf("the model is not ready: status %d, see classifier.h\n", static_cast<int>(status));
    return false;
  }
  std::printf("arena: %u of %d bytes\n", static_cast<unsigned>(ArenaUsed()), kArenaBytes);
  const int off = SelfTest();
  std::printf("self-test: %d golden images, largest difference %d\n", kGoldenImages, off);
  return off >= 0 && off <= kToleranceSteps;
}

inline void Print(const Answer& answer) {
  std::printf("%s %.3f%s\n", kLabels[answer.label], answer.scores[answer.label],
              answer.unsure() ? " unsure" : "");
}

}  // namespace edgekd
