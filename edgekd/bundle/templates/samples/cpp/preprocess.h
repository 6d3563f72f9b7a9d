// The preprocessing of training. Resizing equals Pillow's bilinear filter bit for bit.
//
// Compile with -ffp-contract=off: a fused multiplication and addition can move a weight of the
// filter by one unit.
#ifndef EDGEKD_PREPROCESS_H_
#define EDGEKD_PREPROCESS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "contract.h"

namespace edgekd {

// An image: its R, G, B bytes, row by row.
struct Picture {
  Picture(int columns, int rows)
      : width(columns), height(rows), data(size_t{3} * columns * rows) {}
  uint8_t& At(int x, int y, int c) { return data[(size_t{3} * width * y) + 3 * x + c]; }
  uint8_t At(int x, int y, int c) const { return data[(size_t{3} * width * y) + 3 * x + c]; }

  int width, height;
  std::vector<uint8_t> data;
};

// As in Pillow's Resample.c: 32 bits, less 8 bits for the pixel and 2 bits of headroom.
constexpr int kPrecisionBits = 22;

// The pixels that one pixel of the result is made of, in fixed point.
struct Weights {
  int first = 0;
  std::vector<int64_t> values;
};

// The filter along one axis: a triangle, which is wider by the factor by which the image shrinks.
inline std::vector<Weights> Coefficients(int size, int target) {
  const double scale = static_cast<double>(size) / target;
  const double width = std::max(scale, 1.0);
  std::vector<Weights> rows(target);
  for (int i = 0; i < target; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - width + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + width + 0.5), size);
    std::vector<double> raw;
    double sum = 0;
    for (int x = first; x < end; ++x) {
      raw.push_back(std::max(1.0 - std::abs((x - centre + 0.5) * (1.0 / width)), 0.0));
      sum += raw.back();
    }
    rows[i].first = first;
    for (double value : raw) {
      const double share = sum != 0 ? value / sum : value;
      rows[i].values.push_back(static_cast<int64_t>(share * (1 << kPrecisionBits) + 0.5));
    }
  }
  return rows;
}

inline uint8_t ToByte(int64_t sum) {
  return static_cast<uint8_t>(std::clamp<int64_t>(sum >> kPrecisionBits, 0, 255));
}

// Resizes along the width and then along the height. Each step rounds to 8 bits.
inline Picture Resize(const Picture& image, int width, int height) {
  constexpr int64_t kHalf = int64_t{1} << (kPrecisionBits - 1);
  Picture across(width, image.height);
  if (width == image.width) across.data = image.data;
  const std::vector<Weights> columns = Coefficients(image.width, width);
  for (int y = 0; width != image.width && y < image.height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        int64_t sum = kHalf;
        for (size_t k = 0; k < columns[x].values.size(); ++k) {
          sum += image.At(columns[x].first + static_cast<int>(k), y, c) * columns[x].values[k];
        }
        across.At(x, y, c) = ToByte(sum);
      }
    }
  }
  if (height == image.height) return across;
  Picture down(width, height);
  const std::vector<Weights> rows = Coefficients(image.height, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        int64_t sum = kHalf;
        for (size_t k = 0; k < rows[y].values.size(); ++k) {
          sum += across.At(x, rows[y].first + static_cast<int>(k), c) * rows[y].values[k];
        }
        down.At(x, y, c) = ToByte(sum);
      }
    }
  }
  return down;
}

inline Picture Window(const Picture& image, int left, int top, int width, int height) {
  Picture part(width, height);
  for (int y = 0; y < height; ++y) {
    const auto row = image.data.begin() + 3 * ((top + y) * image.width + left);
    std::copy(row, row + 3 * width, part.data.begin() + 3 * y * width);
  }
  return part;
}

// Rounds half to even, as NumPy's rint and Python's round do.
inline int RoundHalfEven(double value) { return static_cast<int>(std::nearbyint(value)); }

// An image in the middle of a black one.
inline Picture Centred(const Picture& image, int width, int height) {
  Picture whole(width, height);
  const int top = (height - image.height) / 2, left = (width - image.width) / 2;
  for (int y = 0; y < image.height; ++y) {
    const auto row = image.data.begin() + 3 * y * image.width;
    std::copy(row, row + 3 * image.width, whole.data.begin() + 3 * ((top + y) * width + left));
  }
  return whole;
}

// Brings an image to px x px in training's mode: squash, crop or pad.
inline Picture Squared(const Picture& image, const InputSide& input) {
  const int px = input.px;
  if (input.fit == "squash") return Resize(image, px, px);
  if (input.fit == "crop") {
    const int side = std::min(image.width, image.height);
    const int left = (image.width - side) / 2, top = (image.height - side) / 2;
    return Resize(Window(image, left, top, side, side), px, px);
  }
  if (input.fit != "pad") {
    throw std::runtime_error("deployment.json: input.fit is " + input.fit +
                             ", expected squash, crop or pad");
  }
  const double longest = std::max(image.width, image.height);
  const Picture inner = Resize(image, std::max(1, RoundHalfEven(image.width * px / longest)),
                               std::max(1, RoundHalfEven(image.height * px / longest)));
  return Centred(inner, px, px);
}

// Brings an image to the input's size. One of that size goes in as it is; any other is made a
// square, which lies in the middle of the frame.
inline Picture Fit(const Picture& image, const InputSide& input) {
  if (image.width == input.width && image.height == input.height) return image;
  return Centred(Squared(image, input), input.width, input.height);
}

// Turns resized pixels into the codes of the uint8 input tensor.
inline std::vector<uint8_t> ToCodes(const Picture& image, const InputSide& input) {
  std::vector<uint8_t> codes;
  codes.reserve(image.data.size());
  for (size_t i = 0; i < image.data.size(); i += 3) {
    for (int c = 0; c < input.channels; ++c) {
      const double pixel = image.data[i + (input.order == "BGR" ? 2 - c : c)];
      const double normalized = (pixel / 255.0 - input.mean[c]) / input.std[c];
      const double code = std::nearbyint(normalized / input.scale) + input.zero_point;
      codes.push_back(static_cast<uint8_t>(std::clamp(code, 0.0, 255.0)));
    }
  }
  return codes;
}

// Turns an image upright, by the numbers of EXIF: 3, 6 and 8 turn it clockwise by 180, 90 and 270
// degrees, and the others mirror it too.
inline Picture Upright(const Picture& image, int orientation) {
  const bool turned = orientation >= 5;
  Picture made(turned ? image.height : image.width, turned ? image.width : image.height);
  const bool left = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool up = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < made.width; ++x) {
      const int column = left ? made.width - 1 - x : x;
      const int row = up ? made.height - 1 - y : y;
      for (int c = 0; c < 3; ++c) {
        made.At(x, y, c) = turned ? image.At(row, column, c) : image.At(column, row, c);
      }
    }
  }
  return made;
}

// A plane of a picture. The sample of column x and row y starts at
// y * row_stride + x * pixel_stride.
struct Plane {
  const uint8_t* data;
  int row_stride;
  int pixel_stride;
  int At(int x, int y, int sample = 0) const {
    return data[static_cast<size_t>(y) * row_stride + x * pixel_stride + sample];
  }
};

// Packed pixels as a picture. `red`, `green`, `blue`, `alpha`: their places in a pixel; alpha -1
// where there is none. Alpha is not premultiplied; transparent pixels lie on black.
inline Picture FromPacked(const Plane& plane, int width, int height, int red, int green, int blue,
                          int alpha = -1) {
  Picture made(width, height);
  const int places[] = {red, green, blue};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int opaque = alpha < 0 ? 255 : plane.At(x, y, alpha);
      for (int c = 0; c < 3; ++c) {
        made.At(x, y, c) = static_cast<uint8_t>((plane.At(x, y, places[c]) * opaque + 127) / 255);
      }
    }
  }
  return made;
}

// A YUV 4:2:0 frame as a picture: full-range BT.601 (JFIF), times 2 ** 16. U and V have one sample
// for each 2 x 2 pixels.
inline Picture FromYuv420(const Plane& y_plane, const Plane& u_plane, const Plane& v_plane,
                          int width, int height) {
  Picture made(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int luma = (y_plane.At(x, y) << 16) + (1 << 15);
      const int u = u_plane.At(x / 2, y / 2) - 128, v = v_plane.At(x / 2, y / 2) - 128;
      const int rgb[] = {luma + 91881 * v, luma - 22554 * u - 46802 * v, luma + 116130 * u};
      for (int c = 0; c < 3; ++c) {
        made.At(x, y, c) = static_cast<uint8_t>(std::clamp(rgb[c] >> 16, 0, 255));
      }
    }
  }
  return made;
}

}  // namespace edgekd

#endif  // EDGEKD_PREPROCESS_H_
