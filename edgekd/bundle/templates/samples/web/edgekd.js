// What stands between an image and the model's answer, as training did it. Pure functions; no DOM, no runtime.

const PRECISION_BITS = 22; // Pillow's Resample.c: 32 - 8 bits of pixel - 2 of head room

// Pillow's coefficients of its bilinear filter along one axis: a triangle as wide as the shrinking, in fixed point.
function coefficients(size, target) {
  const scale = size / target;
  const width = Math.max(scale, 1);
  const rows = [];
  for (let i = 0; i < target; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - width + 0.5), 0);
    const end = Math.min(Math.trunc(centre + width + 0.5), size);
    const weights = [];
    let sum = 0;
    for (let x = first; x < end; x++) {
      const weight = Math.max(1 - Math.abs((x - centre + 0.5) * (1 / width)), 0);
      weights.push(weight);
      sum += weight;
    }
    rows.push({first, weights: weights.map((w) => Math.trunc((sum ? w / sum : w) * 2 ** PRECISION_BITS + 0.5))});
  }
  return rows;
}

const toByte = (sum) => Math.min(Math.max(Math.floor(sum / 2 ** PRECISION_BITS), 0), 255);

// image: {width, height, data: Uint8Array of R, G, B}. As Pillow's BILINEAR along the width and then the height, bit for bit.
export function resize(image, width, height) {
  let {data} = image;
  const half = 2 ** (PRECISION_BITS - 1);
  if (width !== image.width) {
    const rows = coefficients(image.width, width);
    const next = new Uint8Array(width * image.height * 3);
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < width; x++) {
        const {first, weights} = rows[x];
        for (let c = 0; c < 3; c++) {
          let sum = half;
          for (let k = 0; k < weights.length; k++) sum += data[(y * image.width + first + k) * 3 + c] * weights[k];
          next[(y * width + x) * 3 + c] = toByte(sum);
        }
      }
    }
    data = next;
  }
  if (height !== image.height) {
    const rows = coefficients(image.height, height);
    const next = new Uint8Array(width * height * 3);
    for (let y = 0; y < height; y++) {
      const {first, weights} = rows[y];
      for (let x = 0; x < width * 3; x++) {
        let sum = half;
        for (let k = 0; k < weights.length; k++) sum += data[(first + k) * width * 3 + x] * weights[k];
        next[y * width * 3 + x] = toByte(sum);
      }
    }
    data = next;
  }
  return {width, height, data};
}

function window_(image, left, top, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + width * 3), y * width * 3);
  }
  return {width, height, data};
}

const roundHalfEven = (value) => {
  const whole = Math.round(value);
  return Math.abs(value % 1) === 0.5 && whole % 2 ? whole - 1 : whole;
};

// The image as px x px by the mode that training used.
export function fit(image, px, mode) {
  const {width, height} = image;
  if (mode === 'squash') return resize(image, px, px);
  if (mode === 'crop') {
    const side = Math.min(width, height);
    return resize(window_(image, Math.floor((width - side) / 2), Math.floor((height - side) / 2), side, side), px, px);
  }
  if (mode === 'pad') {
    const longest = Math.max(width, height);
    const inner = resize(image, Math.max(1, roundHalfEven(width * px / longest)),
      Math.max(1, roundHalfEven(height * px / longest)));
    const data = new Uint8Array(px * px * 3);
    const top = Math.floor((px - inner.height) / 2);
    const left = Math.floor((px - inner.width) / 2);
    for (let y = 0; y < inner.height; y++) {
      data.set(inner.data.subarray(y * inner.width * 3, (y + 1) * inner.width * 3), ((top + y) * px + left) * 3);
    }
    return {width: px, height: px, data};
  }
  throw new Error(`deployment.json: fit ${mode} is not known`);
}

// Fitted pixels as the input tensor's codes, Uint8Array [px * px * channels].
export function toCodes(image, source) {
  const {channels, order, mean, std, scale, zero_point: zero} = source;
  const codes = new Uint8Array(image.width * image.height * channels);
  for (let i = 0; i < image.width * image.height; i++) {
    for (let c = 0; c < channels; c++) {
      const pixel = image.data[i * 3 + (order === 'BGR' ? 2 - c : c)];
      const code = roundHalfEven((pixel / 255 - mean[c]) / std[c] / scale) + zero;
      codes[i * channels + c] = Math.min(Math.max(code, 0), 255);
    }
  }
  return codes;
}

// What output codes mean: {answer, scores, set, unsure}. Where an image may have several labels, the set is what it has.
export function told(codes, contract, labels) {
  const {output, confidence} = contract;
  if (output.kind === 'labels') {
    const scores = Array.from(codes, (code, k) => 1 / (1 + Math.exp(
      -(confidence.slopes[k] * (code - output.zero_point) * output.scale + confidence.offsets[k]))));
    const set = labels.filter((_, k) => scores[k] >= confidence.thresholds[k]);
    return {answer: set.join(' + ') || 'no label', scores, set, unsure: false};
  }
  let best = 0;
  const logits = Array.from(codes, (code, k) => {
    if (code > codes[best]) best = k;
    const real = (code - output.zero_point) * output.scale;
    return (output.kind === 'probabilities' ? Math.log(Math.max(real, 1 / 512)) : real) / confidence.temperature;
  });
  const top = Math.max(...logits);
  const exps = logits.map((value) => Math.exp(value - top));
  const sum = exps.reduce((a, b) => a + b, 0);
  const scores = exps.map((value) => value / sum);
  const set = labels.filter((_, k) => scores[k] >= confidence.thresholds[k]);
  return {answer: labels[best], scores, set, unsure: set.length !== 1};
}

// Runs the golden images; resolves to how many, or throws saying what differs. `decode(name)` gives an image,
// `run(codes)` the model's output codes.
export async function selfTest(golden, contract, labels, decode, run) {
  const {px, fit: mode} = contract.input;
  for (const row of [...golden.images, golden.pattern]) {
    const small = fit(await decode(row.file), px, mode);
    if (row.fitted) {
      const expected = await decode(row.fitted);
      if (expected.data.length !== small.data.length || expected.data.some((value, i) => value !== small.data[i])) {
        throw new Error(`${row.file} is brought to size otherwise than in training`);
      }
    }
    const codes = await run(toCodes(small, contract.input));
    if (codes.length !== labels.length) throw new Error(`${labels.length} labels for ${codes.length} outputs`);
    const off = Math.max(...Array.from(codes, (code, k) => Math.abs(code - row.codes_uint8[k])));
    if (!(off <= golden.tolerance_lsb)) throw new Error(`${row.file} is ${off} LSB from the stored answer`);
    const said = told(row.codes_uint8, contract, labels);
    if (said.answer !== row.answer || said.unsure !== row.unsure || said.set.join('\n') !== row.set.join('\n')) {
      throw new Error(`${row.file} says ${said.answer} (${said.set.join(', ')}), stored is ${row.answer} (${row.set.join(', ')})`);
    }
    if (row.label !== undefined && !labels.includes(row.label)) {
      throw new Error(`${row.file} is labelled ${row.label}, which is not in the label list`);
    }
  }
  return golden.images.length + 1;
}
