#include "self_test.h"

#include <cstdlib>

#include "classifier.h"
#include "golden_data.h"

namespace edgekd {

int SelfTest() {
  int worst = 0;
  for (int image = 0; image < kGoldenImages; ++image) {
    const int8_t* codes = Codes(kGoldenPixels[image]);
    if (codes == nullptr) return -1;
    for (int k = 0; k < kClasses; ++k) {
      const int off = std::abs(codes[k] - kGoldenCodes[image][k]);
      if (off > worst) worst = off;
    }
  }
  return worst;
}

}  // namespace edgekd
