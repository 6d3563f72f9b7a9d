// The bundle's model in Flutter, on tflite_flutter.
import 'dart:typed_data';

import 'package:flutter/services.dart' show AssetBundle, rootBundle;
import 'package:image/image.dart' as img;
import 'package:tflite_flutter/tflite_flutter.dart';

import 'contract.dart';
import 'preprocess.dart';
import 'self_test.dart';

/// The folder of the app's assets that holds the bundle's files.
const String _folder = 'assets/bundle/';

/// The model with its labels and preprocessing. [Classifier.create] runs the golden images and
/// throws [Refused] if an answer differs from the stored one.
class Classifier {
  Classifier._(this.contract, this._interpreter, this.tested);

  final Contract contract;
  final Interpreter _interpreter;

  /// The number of golden images that the self-test ran.
  final int tested;

  /// [options] may add a delegate, whose answers need not be exact.
  static Future<Classifier> create({
    InterpreterOptions? options,
    bool exact = true,
    AssetBundle? assets,
  }) async {
    final source = assets ?? rootBundle;
    Future<String> text(String name) => source.loadString('$_folder$name');
    Future<Uint8List> bytes(String name) async {
      final data = await source.load('$_folder$name');
      return data.buffer.asUint8List(data.offsetInBytes, data.lengthInBytes);
    }

    checkVectors(await text('samples/preprocess_vectors.json'));
    final contract = Contract(await text('deployment.json'), await text('labels.txt'));
    final golden = await text('golden/golden.json');
    final images = <String, Picture>{};
    for (final match in RegExp(r'golden/[\w.]+\.png').allMatches(golden)) {
      final name = match.group(0)!;
      images[name] = decodeImage(await bytes(name));
    }
    final interpreter = Interpreter.fromBuffer(await bytes(contract.model), options: options);
    try {
      final tested = selfTest(
        golden,
        contract,
        exact,
        (name) => images[name]!,
        (codes) => _run(interpreter, codes),
      );
      return Classifier._(contract, interpreter, tested);
    } catch (_) {
      interpreter.close();
      rethrow;
    }
  }

  /// Classifies an upright picture of any size.
  Answer classify(Picture picture) {
    final codes = toCodes(fit(picture, contract.input), contract.input);
    return contract.told(_run(_interpreter, codes));
  }

  static Uint8List _run(Interpreter interpreter, Uint8List codes) {
    interpreter.getInputTensor(0).data = codes;
    interpreter.invoke();
    // Other outputs of the file are no answers.
    return Uint8List.fromList(interpreter.getOutputTensor(0).data);
  }

  void close() => _interpreter.close();
}

/// Decodes an image file. It is turned upright by its EXIF data; transparent pixels lie on black.
Picture decodeImage(Uint8List file) {
  final decoded = img.decodeImage(file);
  if (decoded == null) throw const Refused('the file is not a readable image');
  final image = img.bakeOrientation(decoded).convert(numChannels: 4);
  final plane = Plane(image.getBytes(order: img.ChannelOrder.rgba), 4 * image.width, 4);
  return packed(plane, image.width, image.height, const [0, 1, 2], 3);
}
