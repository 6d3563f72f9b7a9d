// @@NAME@@ in C++.
// The program uses TensorFlow Lite's C API (tensorflow/lite/c/c_api.h) from libtensorflowlite_c or
// from LiteRT's C library.
//
//   c++ -std=c++17 -O2 -ffp-contract=off classify.cc -I TFLITE_INCLUDE -L TFLITE_LIB
//       -ltensorflowlite_c -o classify
//   ./classify BUNDLE < photo.ppm
//
// It reads a binary PPM (P6), of any size, and brings it to the model's input as in training. It
// prints the label, its probability, and "unsure" where that applies. All figures come from the
// bundle's deployment.json. check_vectors.cc tests the preprocessing. Before you ship, run the
// golden images through your own decoding and compare the answers with golden/golden.json, as the
// other samples do.
//
// @@LIMITS@@

#include <cstdio>
#include <iostream>
#include <memory>

#include "preprocess.h"
#include "tensorflow/lite/c/c_api.h"

namespace edgekd {

// A damaged header may claim a huge image. This limit keeps it from filling the memory.
constexpr long long kMaxPixels = 64'000'000;

// A binary PPM with 8 bits a sample, without comments.
Picture ReadPpm(std::istream& stream) {
  std::string mark;
  int width = 0, height = 0, most = 0;
  stream >> mark >> width >> height >> most;
  if (!stream || mark != "P6" || most != 255 || width < 1 || height < 1) {
    throw std::runtime_error("the standard input is not a binary PPM (P6) of 8 bits");
  }
  if (static_cast<long long>(width) * height > kMaxPixels) {
    throw std::runtime_error("the image has too many pixels");
  }
  stream.get();  // the one space after the header
  Picture picture(width, height);
  stream.read(reinterpret_cast<char*>(picture.data.data()),
              static_cast<std::streamsize>(picture.data.size()));
  if (!stream) throw std::runtime_error("the image is cut short");
  return picture;
}

class Classifier {
 public:
  explicit Classifier(const Contract& contract) : contract_(contract) {
    model_.reset(TfLiteModelCreateFromFile(contract.model.c_str()));
    if (!model_) throw std::runtime_error(contract.model + " is no .tflite file for this runtime");
    interpreter_.reset(TfLiteInterpreterCreate(model_.get(), nullptr));
    if (!interpreter_ || TfLiteInterpreterAllocateTensors(interpreter_.get()) != kTfLiteOk) {
      throw std::runtime_error("the runtime refuses the model");
    }
    input_ = TfLiteInterpreterGetInputTensor(interpreter_.get(), 0);
    // The answers are the first output. Others of the file are in further_outputs.
    output_ = TfLiteInterpreterGetOutputTensor(interpreter_.get(), 0);
    const TfLiteQuantizationParams grid = TfLiteTensorQuantizationParams(output_);
    const InputSide& stated = contract.input;
    if (TfLiteTensorType(input_) != kTfLiteUInt8 ||
        TfLiteTensorByteSize(input_) !=
            size_t{1} * stated.width * stated.height * stated.channels ||
        grid.scale != static_cast<float>(contract.scale) ||
        grid.zero_point != contract.zero_point) {
      throw std::runtime_error("the model's tensors differ from those in deployment.json");
    }
  }

  Answer Classify(const Picture& picture) {
    const std::vector<uint8_t> pixels =
        ToCodes(Fit(picture, contract_.input), contract_.input);
    std::vector<uint8_t> codes(TfLiteTensorByteSize(output_));
    if (TfLiteTensorCopyFromBuffer(input_, pixels.data(), pixels.size()) != kTfLiteOk ||
        TfLiteInterpreterInvoke(interpreter_.get()) != kTfLiteOk ||
        TfLiteTensorCopyToBuffer(output_, codes.data(), codes.size()) != kTfLiteOk) {
      throw std::runtime_error("the model did not run");
    }
    return contract_.Told(codes);
  }

 private:
  struct Delete {
    void operator()(TfLiteModel* model) const { TfLiteModelDelete(model); }
    void operator()(TfLiteInterpreter* interpreter) const { TfLiteInterpreterDelete(interpreter); }
  };
  const Contract& contract_;
  std::unique_ptr<TfLiteModel, Delete> model_;
  std::unique_ptr<TfLiteInterpreter, Delete> interpreter_;
  TfLiteTensor* input_ = nullptr;
  const TfLiteTensor* output_ = nullptr;
};

}  // namespace edgekd

int main(int argc, char** argv) {
  if (argc != 2 || std::string(argv[1]) == "--help") {
    std::printf("usage: classify BUNDLE < photo.ppm\n");
    return argc == 2 ? 0 : 2;
  }
  try {
    const edgekd::Contract contract(argv[1]);
    edgekd::Classifier classifier(contract);
    const edgekd::Answer answer = classifier.Classify(edgekd::ReadPpm(std::cin));
    if (answer.several) {
      for (int k : answer.set) {
        std::printf("%s %.6f\n", contract.labels[k].c_str(), answer.scores[k]);
      }
      if (answer.set.empty()) std::printf("no label\n");
      return 0;
    }
    std::printf("%s %.6f%s\n", contract.labels[answer.label].c_str(),
                answer.scores[answer.label], answer.unsure() ? " unsure" : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "refused: %s\n", error.what());
    return 3;
  }
  return 0;
}
