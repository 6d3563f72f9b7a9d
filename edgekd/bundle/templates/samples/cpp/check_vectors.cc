// Checks the preprocessing without a model: every vector of samples/preprocess_vectors.json has to
// become its stored input bytes.
//
//   c++ -std=c++17 -O2 -ffp-contract=off check_vectors.cc -o check_vectors
//   ./check_vectors BUNDLE

#include <cstdio>
#include <cstdlib>

#include "preprocess.h"

namespace edgekd {

std::vector<uint8_t> Base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<uint8_t> bytes;
  unsigned held = 0;
  int bits = 0;
  for (char c : text) {
    if (c == '=') break;
    held = held << 6 | static_cast<unsigned>(digits.find(c));
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<uint8_t>(held >> bits));
  }
  return bytes;
}

Picture Stored(const Json& vector) {
  std::vector<std::vector<uint8_t>> held;
  std::vector<Plane> planes;
  for (const Json& plane : vector["planes"].items) {
    held.push_back(Base64(plane["data"].text));
    planes.push_back({nullptr, plane["row_stride"].Int(), plane["pixel_stride"].Int()});
  }
  for (size_t k = 0; k < held.size(); ++k) planes[k].data = held[k].data();
  const int width = vector["width"].Int(), height = vector["height"].Int();
  const std::string& format = vector["format"].text;
  if (format == "grey") return FromPacked(planes[0], width, height, 0, 0, 0);
  if (format == "rgb") return FromPacked(planes[0], width, height, 0, 1, 2);
  if (format == "rgba") return FromPacked(planes[0], width, height, 0, 1, 2, 3);
  if (format == "bgrx") return FromPacked(planes[0], width, height, 2, 1, 0);
  if (format == "yuv_420") return FromYuv420(planes[0], planes[1], planes[2], width, height);
  throw std::runtime_error("the pixel format " + format + " is unknown");
}

// How far the worst byte is off, in levels.
int Off(const Json& vector) {
  const InputSide input(vector["input"]);
  const Picture upright = Upright(Stored(vector), vector["orientation"].Int());
  const std::vector<uint8_t> found = ToCodes(Fit(upright, input), input);
  const std::vector<uint8_t> expected = Base64(vector["expected"].text);
  if (found.size() != expected.size()) return 256;
  int off = 0;
  for (size_t i = 0; i < found.size(); ++i) off = std::max(off, std::abs(found[i] - expected[i]));
  return off;
}

}  // namespace edgekd

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: check_vectors BUNDLE\n");
    return 2;
  }
  try {
    const std::string bundle = argv[1];
    const edgekd::Json body = edgekd::ReadJson(bundle + "/samples/preprocess_vectors.json");
    for (const edgekd::Json& vector : body["vectors"].items) {
      const int off = edgekd::Off(vector);
      if (off > body["tolerance"].Int()) {
        std::fprintf(stderr, "failed: %s: %d levels off\n", vector["name"].text.c_str(), off);
        return 1;
      }
    }
    std::printf("%zu vectors passed\n", body["vectors"].items.size());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "failed: %s\n", error.what());
    return 1;
  }
  return 0;
}
