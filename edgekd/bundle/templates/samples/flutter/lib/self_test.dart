// What every correct copy of the model does: the test vectors and the golden images.
import 'dart:convert';
import 'dart:math';
import 'dart:typed_data';

import 'contract.dart';
import 'preprocess.dart';

/// Checks samples/preprocess_vectors.json and returns the number of vectors. Throws [Refused],
/// which names the first vector with other bytes.
int checkVectors(String text) {
  final body = jsonDecode(text) as Map<String, dynamic>;
  final vectors = (body['vectors'] as List).cast<Map<String, dynamic>>();
  for (final vector in vectors) {
    final input = InputSide(vector['input'] as Map<String, dynamic>);
    final picture = upright(_stored(vector), vector['orientation'] as int);
    final found = toCodes(fit(picture, input), input);
    final expected = base64Decode(vector['expected'] as String);
    if (_off(found, expected) > (body['tolerance'] as int)) {
      throw Refused('vector ${vector['name']}: other bytes than expected');
    }
  }
  return vectors.length;
}

/// The stored pixels of a vector as a picture, before it is turned.
Picture _stored(Map<String, dynamic> vector) {
  final planes = [
    for (final plane in (vector['planes'] as List).cast<Map<String, dynamic>>())
      Plane(
        base64Decode(plane['data'] as String),
        plane['row_stride'] as int,
        plane['pixel_stride'] as int,
      )
  ];
  final width = vector['width'] as int;
  final height = vector['height'] as int;
  switch (vector['format']) {
    case 'grey':
      return packed(planes[0], width, height, const [0, 0, 0]);
    case 'rgb':
      return packed(planes[0], width, height, const [0, 1, 2]);
    case 'rgba':
      return packed(planes[0], width, height, const [0, 1, 2], 3);
    case 'bgrx':
      return packed(planes[0], width, height, const [2, 1, 0]);
    case 'yuv_420':
      return yuv420(planes[0], planes[1], planes[2], width, height);
    default:
      throw Refused('the pixel format ${vector['format']} is unknown');
  }
}

int _off(List<int> found, List<int> expected) {
  if (found.length != expected.length) return 256;
  var most = 0;
  for (var i = 0; i < found.length; i++) {
    most = max(most, (found[i] - expected[i]).abs());
  }
  return most;
}

/// Runs the golden images and returns their number. Throws [Refused], which names the first image
/// that differs. [exact]: on a CPU; with a delegate, codes may be off by accelerator_tolerance of
/// golden.json, a share of the spread of an image's stored codes.
int selfTest(
  String text,
  Contract contract,
  bool exact,
  Picture Function(String name) decode,
  Uint8List Function(Uint8List codes) infer,
) {
  final golden = jsonDecode(text) as Map<String, dynamic>;
  final rows = [...golden['images'] as List, golden['pattern']].cast<Map<String, dynamic>>();
  for (final row in rows) {
    final file = row['file'] as String;
    final small = fit(decode(file), contract.input);
    final fitted = row['fitted'] as String?;
    if (fitted != null && _off(small.data, decode(fitted).data) > 0) {
      throw Refused('$file: resizing gives other pixels than in training');
    }
    final stored = Uint8List.fromList((row['codes_uint8'] as List).cast<int>());
    final found = infer(toCodes(small, contract.input));
    final steps = (golden['tolerance_lsb'] as int).toDouble();
    final share = (golden['accelerator_tolerance'] as num).toDouble();
    final near = share * (stored.reduce(max) - stored.reduce(min));
    if (_off(found, stored) > (exact ? steps : max(steps, near))) {
      throw Refused('$file: the output differs from the stored output');
    }
    final said = contract.told(stored);
    if (said.label != row['answer'] ||
        said.unsure != row['unsure'] ||
        said.set.join('\n') != (row['set'] as List).join('\n')) {
      throw Refused('$file: the answer is ${said.label}, the stored answer is ${row['answer']}');
    }
  }
  return rows.length;
}
