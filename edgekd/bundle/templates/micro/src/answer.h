// What the model's output codes mean, by the rule in deployment.json.
#pragma once

#include <cmath>
#include <cstdint>

#include "contract.h"

namespace edgekd {

struct Answer {
  int label = 0;                  // the best label
  double scores[kClasses] = {};   // probabilities, 0 to 1
  bool in_set[kClasses] = {};     // which labels reach their thresholds
  int set_size = 0;

  // With several labels an image, no answer is unsure.
  bool unsure() const { return !kSeveral && set_size != 1; }
};

// The number behind an output code.
inline double Real(int8_t code) { return kOutputScale * (code - kOutputZeroPoint); }

inline Answer Decide(const int8_t* codes) {
  Answer answer;
  if (kSeveral) {
    for (int k = 0; k < kClasses; ++k) {
      answer.scores[k] = 1 / (1 + std::exp(-(kSlopes[k] * Real(codes[k]) + kOffsets[k])));
    }
  } else {
    double logits[kClasses];
    double best = -INFINITY;
    for (int k = 0; k < kClasses; ++k) {
      const double real = Real(codes[k]);
      const double logit = kProbabilities ? std::log(std::fmax(real, 1.0 / 512)) : real;
      logits[k] = logit / kTemperature;
      best = std::fmax(best, logits[k]);
    }
    double sum = 0;
    for (int k = 0; k < kClasses; ++k) {
      answer.scores[k] = std::exp(logits[k] - best);
      sum += answer.scores[k];
    }
    for (int k = 0; k < kClasses; ++k) answer.scores[k] /= sum;
  }
  for (int k = 0; k < kClasses; ++k) {
    if (codes[k] > codes[answer.label]) answer.label = k;
    answer.in_set[k] = answer.scores[k] >= kThresholds[k];
    answer.set_size += answer.in_set[k];
  }
  return answer;
}

}  // namespace edgekd
