// @@NAME@@ in an Arduino sketch.
//
// Copy the folder src of this bundle into the sketch, so that classify/src/classifier.cpp exists,
// and install a library with TensorFlow Lite Micro for your board, such as Chirale_TensorFlowLite
// (or tflm_esp32 for an ESP32). The include of that library comes first.
//
// @@LIMITS@@

#include <Chirale_TensorFlowLite.h>

#include "src/classifier.h"
#include "src/golden_data.h"
#include "src/self_test.h"

bool ready = false;

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 5000) {
  }
  const edgekd::Status status = edgekd::Begin();
  const int off = status == edgekd::Status::kReady ? edgekd::SelfTest() : -1;
  ready = off >= 0 && off <= edgekd::kToleranceSteps;
  Serial.print("status ");
  Serial.print(static_cast<int>(status));
  Serial.print(", largest difference of the self-test ");
  Serial.println(off);
}

void loop() {
  if (ready) {
    // Your camera's image belongs here: kPixels bytes, fitted as in README.md.
    const unsigned long start = micros();
    const int8_t* codes = edgekd::Codes(edgekd::kGoldenPixels[0]);
    const unsigned long taken = micros() - start;
    if (codes != nullptr) {
      const edgekd::Answer answer = edgekd::Decide(codes);
      Serial.print(edgekd::kLabels[answer.label]);
      Serial.print(answer.unsure() ? " unsure, us: " : ", us: ");
      Serial.println(taken);
    }
  }
  delay(1000);
}
