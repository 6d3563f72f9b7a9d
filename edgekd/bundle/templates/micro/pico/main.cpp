// @@NAME@@ on a Raspberry Pi Pico 2: the self-test and the time of one inference, over USB.
//
// @@LIMITS@@

#include "app.h"
#include "pico/stdlib.h"

int main() {
  stdio_init_all();
  sleep_ms(3000);  // time to open the serial port
  const bool ready = edgekd::Ready();
  while (true) {
    if (ready) {
      // Your camera's image belongs here: kPixels bytes, fitted as in README.md.
      const uint64_t start = time_us_64();
      const int8_t* codes = edgekd::Codes(edgekd::kGoldenPixels[0]);
      const uint64_t taken = time_us_64() - start;
      if (codes != nullptr) edgekd::Print(edgekd::Decide(codes));
      printf("%.3f ms\n", static_cast<double>(taken) / 1000);
    }
    sleep_ms(1000);
  }
}
