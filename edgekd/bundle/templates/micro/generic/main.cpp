// @@NAME@@ on a board with a C library: the self-test, then one golden image.
//
// @@LIMITS@@

#include "app.h"

int main() {
  if (!edgekd::Ready()) return 1;
  // Your camera's image belongs here: kPixels bytes, fitted as in README.md.
  const int8_t* codes = edgekd::Codes(edgekd::kGoldenPixels[0]);
  if (codes == nullptr) return 1;
  edgekd::Print(edgekd::Decide(codes));
  return 0;
}
