// deployment.json and labels.txt: how to feed the model, and what its output means.
import 'dart:convert';
import 'dart:math';
import 'dart:typed_data';

/// The self-test failed, so this copy would give wrong answers, or an image cannot be used.
class Refused implements Exception {
  const Refused(this.message);

  final String message;

  @override
  String toString() => message;
}

List<double> _numbers(Object? row) => [for (final one in row as List) (one as num).toDouble()];

/// The input tensor, and the preprocessing that leads to it.
class InputSide {
  InputSide(Map<String, dynamic> body)
      : px = body['px'] as int,
        frame = (body['frame'] as List?)?.cast<int>(),
        channels = body['channels'] as int,
        order = body['order'] as String,
        fit = body['fit'] as String,
        mean = _numbers(body['mean']),
        std = _numbers(body['std']),
        scale = (body['scale'] as num).toDouble(),
        zeroPoint = body['zero_point'] as int;

  final int px;
  final List<int>? frame;
  final int channels;
  final String order;
  final String fit;
  final List<double> mean;
  final List<double> std;
  final double scale;
  final int zeroPoint;

  /// The tensor's sides. A file that takes a frame may be no square.
  int get width => frame?[1] ?? px;
  int get height => frame?[0] ?? px;
}

/// The model's answer to one image. [set] holds the labels that are likely enough.
class Answer {
  const Answer(this.label, this.scores, this.set, this.unsure);

  final String label;
  final List<double> scores;
  final List<String> set;
  final bool unsure;
}

class Contract {
  Contract(String text, String labelText)
      : body = jsonDecode(text) as Map<String, dynamic>,
        labels = const LineSplitter().convert(labelText) {
    if (labels.length != thresholds.length) {
      throw const Refused('labels.txt does not match deployment.json');
    }
  }

  final Map<String, dynamic> body;
  final List<String> labels;

  late final InputSide input = InputSide(body['input'] as Map<String, dynamic>);
  late final Map<String, dynamic> output = body['output'] as Map<String, dynamic>;
  late final Map<String, dynamic> rule = body['confidence'] as Map<String, dynamic>;
  late final List<double> thresholds = _numbers(rule['thresholds']);

  String get model => body['model'] as String;

  /// Turns output codes (0 to 255) into an answer. Where an image may have several labels, the set
  /// of the answer holds all of them, and it is never unsure.
  Answer told(Uint8List codes) {
    if (codes.length != labels.length) {
      throw Refused('${labels.length} labels, but the model has ${codes.length} outputs');
    }
    final zero = output['zero_point'] as int;
    final scale = (output['scale'] as num).toDouble();
    final reals = [for (final code in codes) (code - zero) * scale];
    final several = output['kind'] == 'labels';
    final scores = several ? _sigmoids(reals) : _softmax(reals);
    final set = [
      for (var k = 0; k < labels.length; k++)
        if (scores[k] >= thresholds[k]) labels[k]
    ];
    if (several) {
      return Answer(set.isEmpty ? 'no label' : set.join(' + '), scores, set, false);
    }
    final best = codes.indexOf(codes.reduce(max));
    return Answer(labels[best], scores, set, set.length != 1);
  }

  List<double> _sigmoids(List<double> reals) {
    final slopes = _numbers(rule['slopes']);
    final offsets = _numbers(rule['offsets']);
    return [
      for (var k = 0; k < reals.length; k++) 1 / (1 + exp(-(slopes[k] * reals[k] + offsets[k])))
    ];
  }

  List<double> _softmax(List<double> reals) {
    final temperature = (rule['temperature'] as num).toDouble();
    final probable = output['kind'] == 'probabilities';
    final logits = [
      for (final real in reals) (probable ? log(max(real, 1 / 512)) : real) / temperature
    ];
    final top = logits.reduce(max);
    final powers = [for (final logit in logits) exp(logit - top)];
    final sum = powers.reduce((a, b) => a + b);
    return [for (final power in powers) power / sum];
  }
}
