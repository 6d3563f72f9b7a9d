// @@NAME@@ on an ESP32-S3: the self-test and the time of one inference.
//
// @@LIMITS@@

#include "app.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

extern "C" void app_main() {
  const bool ready = edgekd::Ready();
  while (true) {
    if (ready) {
      // Your camera's image belongs here: kPixels bytes, fitted as in README.md.
      const int64_t start = esp_timer_get_time();
      const int8_t* codes = edgekd::Codes(edgekd::kGoldenPixels[0]);
      const int64_t taken = esp_timer_get_time() - start;
      if (codes != nullptr) edgekd::Print(edgekd::Decide(codes));
      printf("%.3f ms\n", static_cast<double>(taken) / 1000);
    }
    vTaskDelay(pdMS_TO_TICKS(1000));
  }
}
