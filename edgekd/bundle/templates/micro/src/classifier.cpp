#include "classifier.h"

#include "model_data.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace edgekd {
namespace {

alignas(16) uint8_t arena[kArenaBytes];
Resolver resolver;
tflite::MicroInterpreter* interpreter = nullptr;

}  // namespace

Status Begin() {
  const tflite::Model* model = tflite::GetModel(kModel);
  if (model->version() != TFLITE_SCHEMA_VERSION) return Status::kSchema;
  if (AddOperators(resolver) != kTfLiteOk) return Status::kOperators;
  static tflite::MicroInterpreter made(model, resolver, arena, kArenaBytes);
  if (made.AllocateTensors() != kTfLiteOk) return Status::kArena;
  if (made.input(0)->type != kTfLiteInt8 || made.input(0)->bytes != kPixels ||
      made.output(0)->type != kTfLiteInt8 || made.output(0)->bytes != kClasses) {
    return Status::kTensors;
  }
  for (int k = 0; k < kFurther; ++k) {
    const TfLiteTensor* further = made.output(k + 1);
    if (further->type != kTfLiteInt8 || further->bytes != kFurtherOutputs[k].bytes) {
      return Status::kTensors;
    }
  }
  interpreter = &made;
  return Status::kReady;
}

const int8_t* Codes(const uint8_t* pixels) {
  if (interpreter == nullptr) return nullptr;
  int8_t* input = interpreter->input(0)->data.int8;
  for (int k = 0; k < kPixels; ++k) input[k] = CodeOf(pixels[k]);
  if (interpreter->Invoke() != kTfLiteOk) return nullptr;
  return interpreter->output(0)->data.int8;
}

const int8_t* FurtherCodes(int place) {
  if (interpreter == nullptr || place < 0 || place >= kFurther) return nullptr;
  return interpreter->output(place + 1)->data.int8;
}

size_t ArenaUsed() { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

}  // namespace edgekd
