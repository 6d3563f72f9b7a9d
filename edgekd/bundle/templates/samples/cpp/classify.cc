// @@NAME@@ in C++ through TensorFlow Lite's C API (tensorflow/lite/c/c_api.h, libtensorflowlite_c or LiteRT's C library).
//
//   c++ -std=c++17 classify.cc -I TFLITE_INCLUDE -L TFLITE_LIB -ltensorflowlite_c -o classify
//   ./classify BUNDLE < @@PX@@x@@PX@@.rgb        raw R, G, B bytes, already brought to size as deployment.json says
//
// A snippet, not an app: it takes pixels that are fitted already (Pillow's bilinear, width first) and prints label, probability
// and "unsure". The figures below are deployment.json's; classify --help prints them. Before shipping run the golden images
// through your own decoding and compare with golden/golden.json, as the other samples do.
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
constexpr double kThresholds[] = {@@THRESHOLDS@@};  // one a label
constexpr bool kSeveral = @@SEVERAL@@;  // an image may have none, one or several labels, each through a sigmoid of its own
constexpr double kSlopes[] = {@@SLOPES@@};
constexpr double kOffsets[] = {@@OFFSETS@@};
constexpr bool kProbabilities = @@PROBABILITIES@@;  // the file ends in SOFTMAX

struct Answer {
  int label = 0;
  std::vector<double> scores;
  std::vector<int> set;
  bool unsure() const { return !kSeveral && set.size() != 1; }
};

// What uint8 output codes mean.
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
    if (!model_) throw std::runtime_error(path + " is not a .tflite that this runtime reads");
    interpreter_.reset(TfLiteInterpreterCreate(model_.get(), nullptr));
    if (!interpreter_ || TfLiteInterpreterAllocateTensors(interpreter_.get()) != kTfLiteOk) {
      throw std::runtime_error("the runtime refuses the model");
    }
    input_ = TfLiteInterpreterGetInputTensor(interpreter_.get(), 0);
    output_ = TfLiteInterpreterGetOutputTensor(interpreter_.get(), 0);
    if (TfLiteTensorType(input_) != kTfLiteUInt8 || TfLiteTensorByteSize(input_) != size_t{kPx} * kPx * kChannels) {
      throw std::runtime_error("the model's input is not what deployment.json says");
    }
  }

  // pixels: kPx * kPx * kChannels bytes. A pixel is its own code: the input tensor's scale makes it so.
  Answer Classify(const std::vector<uint8_t>& pixels) {
    if (pixels.size() != size_t{kPx} * kPx * kChannels) throw std::runtime_error("wrong number of pixels");
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
    std::printf("classify BUNDLE < pixels: %d x %d x %d bytes; temperature %g\n", edgekd::kPx, edgekd::kPx,
                edgekd::kChannels, edgekd::kTemperature);
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
    if (labels.size() != answer.scores.size()) throw std::runtime_error("labels.txt does not fit the model");
    if (edgekd::kSeveral) {
      for (int k : answer.set) std::printf("%s %.6f\n", labels[k].c_str(), answer.scores[k]);
      if (answer.set.empty()) std::printf("no label\n");
      return 0;
    }
    std::printf("%s %.6f%s\n", labels[answer.label].c_str(), answer.scores[answer.label], answer.unsure() ? " unsure" : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "refused: %s\n", error.what());
    return 3;
  }
  return 0;
}
