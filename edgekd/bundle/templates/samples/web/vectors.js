// The test vectors of samples/preprocess_vectors.json: small pictures with the input bytes that
// each app of this model has to make of them.
import {fit, onBlack, toCodes} from './edgekd.js';

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const SAMPLES = {grey: 1, rgb: 3, rgba: 4}; // of a pixel
// A page never sees the frames of a phone's camera, which the other vectors hold.
const here = (vector) => vector.format in SAMPLES;

// The stored pixels as an image. They are not turned upright.
function stored({format, width, height, planes: [plane]}) {
  const data = bytesOf(plane.data);
  if (format === 'rgba') return onBlack(data, width, height);
  if (format === 'rgb') return {width, height, data};
  return {width, height, data: Uint8Array.from({length: 3 * width * height},
    (_, i) => data[Math.floor(i / 3)])};
}

// Checks the vectors. Resolves to {checked, left}; throws an Error that names the first vector with
// other bytes. `decode(blob)`, where the caller has it, turns an image file into an image.
export async function checkVectors({tolerance, vectors}, decode = null) {
  let checked = 0;
  for (const vector of vectors.filter(here)) {
    const ways = [];
    if (vector.orientation === 1) ways.push(stored(vector));
    if (decode && vector.file) ways.push(await decode(new Blob([bytesOf(vector.file)])));
    const expected = bytesOf(vector.expected);
    for (const image of ways) {
      const found = toCodes(fit(image, vector.input), vector.input);
      const off = found.length === expected.length
        ? found.reduce((most, code, i) => Math.max(most, Math.abs(code - expected[i])), 0)
        : Infinity;
      if (off > tolerance) throw new Error(`vector "${vector.name}": ${off} levels off`);
    }
    checked += ways.length > 0;
  }
  return {checked, left: vectors.length - checked};
}
