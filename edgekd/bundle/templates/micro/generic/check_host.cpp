// Checks on a desktop, without TensorFlow Lite Micro, what the other files hold: the model's bytes,
// its alignment, the meaning of the golden codes.
//
//   c++ -std=c++17 -I ../src check_host.cpp ../src/model_data.cpp ../src/golden_data.cpp
//       -o check_host
//   ./check_host

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "answer.h"
#include "golden_data.h"
#include "model_data.h"

namespace {

// CRC-32 as zlib computes it.
uint32_t Crc(const unsigned char* data, unsigned length) {
  uint32_t crc = 0xffffffffu;
  for (unsigned k = 0; k < length; ++k) {
    crc ^= data[k];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

int failures = 0;

void Check(bool holds, const char* what) {
  if (!holds) {
    std::printf("wrong: %s\n", what);
    ++failures;
  }
}

}  // namespace

int main() {
  using namespace edgekd;
  Check(std::memcmp(kModel + 4, "TFL3", 4) == 0, "the model is no .tflite file");
  Check(Crc(kModel, kModelBytes) == kModelCrc32, "the model's bytes are not those of the bundle");
  Check(reinterpret_cast<uintptr_t>(kModel) % 16 == 0, "the model is not aligned to 16 bytes");
  Check(CodeOf(0) == -128 && CodeOf(255) == 127, "pixels do not become codes");
  for (int image = 0; image < kGoldenImages; ++image) {
    const Answer answer = Decide(kGoldenCodes[image]);
    Check(answer.label == kGoldenLabels[image], "the answer to a golden image differs");
    Check(answer.unsure() == kGoldenUnsure[image], "whether a golden image is unsure differs");
  }
  if (failures == 0) std::printf("model and golden answers are those of the bundle\n");
  return failures == 0 ? 0 : 1;
}
