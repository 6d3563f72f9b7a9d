// The preprocessing of training. Resizing equals Pillow's bilinear filter bit for bit.
import 'dart:math';
import 'dart:typed_data';

import 'contract.dart';

/// An image: its R, G, B bytes, row by row.
class Picture {
  Picture(this.width, this.height, [Uint8List? bytes])
      : data = bytes ?? Uint8List(3 * width * height);

  final int width;
  final int height;
  final Uint8List data;
}

/// Bytes of a picture. The sample of column x and row y starts at y * rowStride + x * pixelStride.
class Plane {
  const Plane(this.data, this.rowStride, this.pixelStride);

  final Uint8List data;
  final int rowStride;
  final int pixelStride;

  int at(int x, int y, [int sample = 0]) => data[y * rowStride + x * pixelStride + sample];
}

/// As in Pillow's Resample.c: 32 bits, less 8 bits for the pixel and 2 bits of headroom.
const int _precisionBits = 22;

/// The pixels that one pixel of the result is made of, in fixed point.
class _Weights {
  const _Weights(this.first, this.values);

  final int first;
  final List<int> values;
}

/// The filter along one axis: a triangle, wider by the factor by which the image shrinks.
List<_Weights> _coefficients(int size, int target) {
  final scale = size / target;
  final width = max(scale, 1.0);
  return List.generate(target, (i) {
    final centre = (i + 0.5) * scale;
    final first = max((centre - width + 0.5).toInt(), 0);
    final end = min((centre + width + 0.5).toInt(), size);
    final raw = [
      for (var x = first; x < end; x++) max(1 - ((x - centre + 0.5) * (1 / width)).abs(), 0.0)
    ];
    final sum = raw.fold(0.0, (a, b) => a + b);
    return _Weights(first, [
      for (final value in raw)
        ((sum != 0 ? value / sum : value) * (1 << _precisionBits) + 0.5).toInt()
    ]);
  });
}

int _level(int sum, int bits) => (sum >> bits).clamp(0, 255);

/// Resizes along the width and then along the height. Each step rounds to 8 bits.
Picture resize(Picture image, int width, int height) {
  const half = 1 << (_precisionBits - 1);
  var made = image;
  if (width != made.width) {
    final columns = _coefficients(made.width, width);
    final next = Picture(width, made.height);
    for (var y = 0; y < made.height; y++) {
      for (var x = 0; x < width; x++) {
        for (var c = 0; c < 3; c++) {
          var sum = half;
          var at = 3 * (y * made.width + columns[x].first) + c;
          for (final weight in columns[x].values) {
            sum += made.data[at] * weight;
            at += 3;
          }
          next.data[3 * (y * width + x) + c] = _level(sum, _precisionBits);
        }
      }
    }
    made = next;
  }
  if (height != made.height) {
    final rows = _coefficients(made.height, height);
    final row = 3 * width;
    final next = Picture(width, height);
    for (var y = 0; y < height; y++) {
      for (var x = 0; x < row; x++) {
        var sum = half;
        var at = rows[y].first * row + x;
        for (final weight in rows[y].values) {
          sum += made.data[at] * weight;
          at += row;
        }
        next.data[y * row + x] = _level(sum, _precisionBits);
      }
    }
    made = next;
  }
  return made;
}

Picture _window(Picture image, int left, int top, int width, int height) {
  final made = Picture(width, height);
  for (var y = 0; y < height; y++) {
    final start = 3 * ((top + y) * image.width + left);
    made.data.setRange(3 * y * width, 3 * (y + 1) * width, image.data, start);
  }
  return made;
}

/// Rounds half to even, as NumPy's rint and Python's round do.
int _even(double value) {
  final whole = value.floor();
  final rest = value - whole;
  if (rest == 0.5) return whole.isEven ? whole : whole + 1;
  return rest < 0.5 ? whole : whole + 1;
}

/// An image in the middle of a black one.
Picture _centred(Picture image, int width, int height) {
  final made = Picture(width, height);
  final top = (height - image.height) ~/ 2;
  final left = (width - image.width) ~/ 2;
  for (var y = 0; y < image.height; y++) {
    final start = 3 * ((top + y) * width + left);
    made.data.setRange(start, start + 3 * image.width, image.data, 3 * y * image.width);
  }
  return made;
}

/// Brings an image to px x px in training's mode: squash, crop or pad.
Picture _squared(Picture image, int px, String mode) {
  switch (mode) {
    case 'squash':
      return resize(image, px, px);
    case 'crop':
      final side = min(image.width, image.height);
      final left = (image.width - side) ~/ 2;
      final top = (image.height - side) ~/ 2;
      return resize(_window(image, left, top, side, side), px, px);
    case 'pad':
      final longest = max(image.width, image.height);
      final width = max(1, _even(image.width * px / longest));
      final inner = resize(image, width, max(1, _even(image.height * px / longest)));
      return _centred(inner, px, px);
    default:
      throw Refused('input.fit is $mode, expected squash, crop or pad');
  }
}

/// Brings an image to the input's size. One of that size goes in as it is; any other is made a
/// square, which lies in the middle of the frame.
Picture fit(Picture image, InputSide input) {
  if (image.width == input.width && image.height == input.height) return image;
  return _centred(_squared(image, input.px, input.fit), input.width, input.height);
}

/// Turns resized pixels into the codes of the uint8 input tensor.
Uint8List toCodes(Picture image, InputSide input) {
  final count = image.width * image.height;
  final codes = Uint8List(count * input.channels);
  for (var i = 0; i < count; i++) {
    for (var c = 0; c < input.channels; c++) {
      final pixel = image.data[3 * i + (input.order == 'BGR' ? 2 - c : c)];
      final normalized = (pixel / 255 - input.mean[c]) / input.std[c];
      final code = _even(normalized / input.scale) + input.zeroPoint;
      codes[i * input.channels + c] = code.clamp(0, 255);
    }
  }
  return codes;
}

/// Turns an image upright, by the numbers of EXIF: 3, 6 and 8 turn it clockwise by 180, 90 and 270
/// degrees, and the others mirror it too.
Picture upright(Picture image, int orientation) {
  final turned = orientation >= 5;
  final made =
      turned ? Picture(image.height, image.width) : Picture(image.width, image.height);
  final mirrored = const [2, 3, 6, 7].contains(orientation);
  final flipped = const [3, 4, 7, 8].contains(orientation);
  for (var y = 0; y < made.height; y++) {
    for (var x = 0; x < made.width; x++) {
      final column = mirrored ? made.width - 1 - x : x;
      final row = flipped ? made.height - 1 - y : y;
      final from = turned ? column * image.width + row : row * image.width + column;
      for (var c = 0; c < 3; c++) {
        made.data[3 * (y * made.width + x) + c] = image.data[3 * from + c];
      }
    }
  }
  return made;
}

/// Packed pixels as a picture. [places]: where red, green and blue lie in a pixel. [alpha]: where
/// alpha lies, if there is one; it is not premultiplied, and transparent pixels lie on black.
Picture packed(Plane plane, int width, int height, List<int> places, [int? alpha]) {
  final made = Picture(width, height);
  for (var y = 0; y < height; y++) {
    for (var x = 0; x < width; x++) {
      final opaque = alpha == null ? 255 : plane.at(x, y, alpha);
      for (var c = 0; c < 3; c++) {
        final value = (plane.at(x, y, places[c]) * opaque + 127) ~/ 255;
        made.data[3 * (y * width + x) + c] = value;
      }
    }
  }
  return made;
}

/// A YUV 4:2:0 frame as a picture: full-range BT.601 (JFIF), times 2 to the power of 16. U and V
/// have one sample for each 2 x 2 pixels.
Picture yuv420(Plane y, Plane u, Plane v, int width, int height) {
  final made = Picture(width, height);
  for (var row = 0; row < height; row++) {
    for (var x = 0; x < width; x++) {
      final luma = (y.at(x, row) << 16) + (1 << 15);
      final blue = u.at(x ~/ 2, row ~/ 2) - 128;
      final red = v.at(x ~/ 2, row ~/ 2) - 128;
      final at = 3 * (row * width + x);
      made.data[at] = _level(luma + 91881 * red, 16);
      made.data[at + 1] = _level(luma - 22554 * blue - 46802 * red, 16);
      made.data[at + 2] = _level(luma + 116130 * blue, 16);
    }
  }
  return made;
}
