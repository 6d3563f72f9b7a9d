// deployment.json and labels.txt: how to feed the model, and what its output means.
#ifndef EDGEKD_CONTRACT_H_
#define EDGEKD_CONTRACT_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "json.h"

namespace edgekd {

// The input tensor, and the preprocessing that leads to it.
struct InputSide {
  explicit InputSide(const Json& body)
      : px(body["px"].Int()),
        // A file that takes a frame may be no square.
        width(body.Has("frame") ? body["frame"].items.at(1).Int() : px),
        height(body.Has("frame") ? body["frame"].items.at(0).Int() : px),
        channels(body["channels"].Int()),
        order(body["order"].text),
        fit(body["fit"].text),
        mean(body["mean"].Numbers()),
        std(body["std"].Numbers()),
        scale(body["scale"].number),
        zero_point(body["zero_point"].Int()) {}

  int px, width, height, channels;
  std::string order, fit;
  std::vector<double> mean, std;
  double scale;
  int zero_point;
};

// The model's answer. `set` holds the labels that are likely enough. Where an image may have
// several labels, `set` holds all of them and no answer is unsure.
struct Answer {
  int label = 0;
  std::vector<double> scores;
  std::vector<int> set;
  bool several = false;
  bool unsure() const { return !several && set.size() != 1; }
};

class Contract {
 public:
  explicit Contract(const std::string& bundle)
      : body_(ReadJson(bundle + "/deployment.json")),
        input(body_["input"]),
        model(bundle + "/" + body_["model"].text),
        scale(body_["output"]["scale"].number),
        zero_point(body_["output"]["zero_point"].Int()) {
    std::ifstream file(bundle + "/" + body_["labels"].text);
    for (std::string line; std::getline(file, line);) labels.push_back(line);
    const Json& rule = body_["confidence"];
    thresholds_ = rule["thresholds"].Numbers();
    kind_ = body_["output"]["kind"].text;
    if (kind_ == "labels") {
      slopes_ = rule["slopes"].Numbers();
      offsets_ = rule["offsets"].Numbers();
    } else {
      temperature_ = rule["temperature"].number;
    }
    if (labels.size() != thresholds_.size()) {
      throw std::runtime_error("labels.txt does not match deployment.json");
    }
  }

  // Turns uint8 output codes into an answer.
  Answer Told(const std::vector<uint8_t>& codes) const {
    if (codes.size() != labels.size()) {
      throw std::runtime_error("labels.txt does not match the model's number of outputs");
    }
    Answer answer;
    answer.several = kind_ == "labels";
    answer.scores = answer.several ? Sigmoids(codes) : Softmax(codes);
    answer.label = static_cast<int>(std::max_element(codes.begin(), codes.end()) - codes.begin());
    for (size_t k = 0; k < codes.size(); ++k) {
      if (answer.scores[k] >= thresholds_[k]) answer.set.push_back(static_cast<int>(k));
    }
    return answer;
  }

 private:
  double Real(uint8_t code) const { return (static_cast<int>(code) - zero_point) * scale; }

  std::vector<double> Sigmoids(const std::vector<uint8_t>& codes) const {
    std::vector<double> scores;
    for (size_t k = 0; k < codes.size(); ++k) {
      scores.push_back(1 / (1 + std::exp(-(slopes_[k] * Real(codes[k]) + offsets_[k]))));
    }
    return scores;
  }

  std::vector<double> Softmax(const std::vector<uint8_t>& codes) const {
    std::vector<double> scores;
    for (uint8_t code : codes) {
      const double real = Real(code);
      const double logit = kind_ == "probabilities" ? std::log(std::max(real, 1.0 / 512)) : real;
      scores.push_back(logit / temperature_);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - top);
    for (double& score : scores) score /= sum;
    return scores;
  }

  Json body_;
  std::string kind_;
  double temperature_ = 1;
  std::vector<double> thresholds_, slopes_, offsets_;

 public:
  InputSide input;
  std::string model;
  double scale;
  int zero_point;
  std::vector<std::string> labels;
};

}  // namespace edgekd

#endif  // EDGEKD_CONTRACT_H_
