// flutter test: the preprocessing makes the stored bytes of every test vector.
import 'dart:io';

import 'package:edgekd_@@IDENTIFIER@@/self_test.dart';
import 'package:flutter_test/flutter_test.dart';

void main() {
  test('every vector passes', () {
    final file = File('assets/bundle/samples/preprocess_vectors.json');
    expect(checkVectors(file.readAsStringSync()), greaterThan(0));
  });
}
