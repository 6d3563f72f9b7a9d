// @@NAME@@ in C++.
// The program uses TensorFlow Lite's C API (tensorflow/lite/c/c_api.h) from libtensorflowlite_c or
// from LiteRT's C library.
//
//   c++ -std=c++17 classify.cc -I TFLITE_INCLUDE -L TFLITE_LIB -ltensorflowlite_c -o classify
//   ./classify BUNDLE < @@PX@@x@@PX@@.rgb
//
// This is a snippet, not an app. It reads raw R, G, B bytes that are already resized as
// deployment.json says (Pillow's bilinear filter, along the width first). It prints the label, its
// probability, and "unsure" where that applies. The constants below are those of deployment.json;
// classify --help prints some of them. Before you ship, run the golden images through your own
// decoding and compare the answers with golden/golden.json, as the other samples do.
//
// @@LIMITS@@

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensorflow/lite/c/c_api.h"

namespace edgekd {

constexpr int kPx = @@PX@@;
constexpr int kChannels = @@CHANNELS@@;
constexpr double kTemperature = @@TEMPERATURE@@;
// One threshold, slope and offset for each label.
constexpr double kThresholds[] = {@@THRESHOLDS@@};
// True where an image may have none, one or several labels. Each label then has its own sigmoid.
constexpr bool kSeveral = @@SEVERAL@@;
constexpr double kSlopes[] = {@@SLOPES@@};
constexpr double kOffsets[] = {@@OFFSETS@@};
// True where the file ends in SOFTMAX.
constexpr bool kProbabilities = @@PROBABILITIES@@;

// The model's answer. `set` holds the labels that are likely enough.
struct Answer {
  int label = 0;
  std::vector<double> scores;
  std::vector<int> set;
  bool unsure() const { return !kSeveral && set.size() != 1; }
};

// Turns uint8 output codes into an answer.
Answer Told(const std::vector<uint8_t>& codes, double scale, int zero_point) {
  Answer answer;
  std::vector<double> logits;
  for (uint8_t code : codes) {
    const double real = (static_cast<int>(code) - zero_point) * scale;
    if (kSeveral) {
      const size_t k = answer.scores.size();
      answer.scores.push_back(1 / (1 + std::exp(-(kSlopes[k] * real + kOffsets[k]))));
      if (answer.scores[k] >= kThresholds[k]) answer.set.push_back(static_cast<int>(k));
      continue;
    }
    logits.push_back((kProbabilities ? std::log(std::max(real, 1.0 / 512)) : real) / kTemperature);
  }
  if (kSeveral) return answer;
  answer.label = static_cast<int>(std::max_element(codes.begin(), codes.end()) - codes.begin());
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - top);
  for (double logit : logits) answer.scores.push_back(std::exp(logit - top) / sum);
  for (size_t k = 0; k < logits.size(); ++k) {
    if (answer.scores[k] >= kThresholds[k]) answer.set.push_back(static_cast<int>(k));
  }
  return answer;
}

class Classifier {
 public:
  explicit Classifier(const std::string& path) {
    model_.reset(TfLiteModelCreateFromFile(path.c_str()));
    if (!model_) throw std::runtime_error(path + " is not a .tflite file that this runtime reads");
    interpreter_.reset(TfLiteInterpreterCreate(model_.get(), nullptr));
    if (!interpreter_ || TfLiteInterpreterAllocateTensors(interpreter_.get()) != kTfLiteOk) {
      throw std::runtime_error("the runtime refuses the model");
    }
    input_ = TfLiteInterpreterGetInputTensor(interpreter_.get(), 0);
    output_ = TfLiteInterpreterGetOutputTensor(interpreter_.get(), 0);
    if (TfLiteTensorType(input_) != kTfLiteUInt8 ||
        TfLiteTensorByteSize(input_) != size_t{kPx} * kPx * kChannels) {
      throw std::runtime_error("the model's input tensor differs from that in deployment.json");
    }
  }

  // pixels: kPx * kPx * kChannels bytes. The scale of the input tensor is such that each pixel
  // value is its own code.
  Answer Classify(const std::vector<uint8_t>& pixels) {
    if (pixels.size() != size_t{kPx} * kPx * kChannels) {
      throw std::runtime_error("wrong number of pixels");
    }
    std::vector<uint8_t> codes(TfLiteTensorByteSize(output_));
    if (TfLiteTensorCopyFromBuffer(input_, pixels.data(), pixels.size()) != kTfLiteOk ||
        TfLiteInterpreterInvoke(interpreter_.get()) != kTfLiteOk ||
        TfLiteTensorCopyToBuffer(output_, codes.data(), codes.size()) != kTfLiteOk) {
      throw std::runtime_error("the model did not run");
    }
    const TfLiteQuantizationParams grid = TfLiteTensorQuantizationParams(output_);
    return Told(codes, grid.scale, grid.zero_point);
  }

 private:
  struct Delete {
    void operator()(TfLiteModel* model) const { TfLiteModelDelete(model); }
    void operator()(TfLiteInterpreter* interpreter) const { TfLiteInterpreterDelete(interpreter); }
  };
  std::unique_ptr<TfLiteModel, Delete> model_;
  std::unique_ptr<TfLiteInterpreter, Delete> interpreter_;
  TfLiteTensor* input_ = nullptr;
  const TfLiteTensor* output_ = nullptr;
};

}  // namespace edgekd

int main(int argc, char** argv) {
  if (argc != 2 || std::string(argv[1]) == "--help") {
    std::printf("classify BUNDLE < pixels: %d x %d x %d bytes; temperature %g\n", edgekd::kPx,
                edgekd::kPx, edgekd::kChannels, edgekd::kTemperature);
    return argc == 2 ? 0 : 2;
  }
  try {
    const std::string bundle = argv[1];
    std::ifstream file(bundle + "/labels.txt");
    std::vector<std::string> labels;
    for (std::string line; std::getline(file, line);) labels.push_back(line);
    edgekd::Classifier classifier(bundle + "/model.tflite");
    std::vector<uint8_t> pixels;
    for (int byte; (byte = std::getchar()) != EOF;) pixels.push_back(static_cast<uint8_t>(byte));
    const edgekd::Answer answer = classifier.Classify(pixels);
    if (labels.size() != answer.scores.size()) {
      throw std::runtime_error("labels.txt does not match the model's number of outputs");
    }
    if (edgekd::kSeveral) {
      for (int k : answer.set) std::printf("%s %.6f\n", labels[k].c_str(), answer.scores[k]);
      if (answer.set.empty()) std::printf("no label\n");
      return 0;
    }
    std::printf("%s %.6f%s\n", labels[answer.label].c_str(), answer.scores[answer.label],
                answer.unsure() ? " unsure" : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "refused: %s\n", error.what());
    return 3;
  }
  return 0;
}
