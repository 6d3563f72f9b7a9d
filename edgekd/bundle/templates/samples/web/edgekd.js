// Preprocessing, as in training, and the meaning of the model's output. Pure functions, which need
// neither the DOM nor the runtime.

// As in Pillow's Resample.c: 32 bits, less 8 bits for the pixel and 2 bits of headroom.
const PRECISION_BITS = 22;

// The coefficients of Pillow's bilinear filter along one axis, in fixed point. The filter is a
// triangle. Where the image shrinks, the triangle is wider by the same factor.
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
    const fixed = (w) => Math.trunc((sum ? w / sum : w) * 2 ** PRECISION_BITS + 0.5);
    rows.push({first, weights: weights.map(fixed)});
  }
  return rows;
}

const toByte = (sum) => Math.min(Math.max(Math.floor(sum / 2 ** PRECISION_BITS), 0), 255);

// Resizes along the width and then along the height. The result equals Pillow's BILINEAR bit for
// bit. image: {width, height, data}, where data is a Uint8Array of R, G, B.
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
          for (let k = 0; k < weights.length; k++) {
            sum += data[(y * image.width + first + k) * 3 + c] * weights[k];
          }
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
        for (let k = 0; k < weights.length; k++) {
          sum += data[(first + k) * width * 3 + x] * weights[k];
        }
        next[y * width * 3 + x] = toByte(sum);
      }
    }
    data = next;
  }
  return {width, height, data};
}

// Cuts a rectangle out of an image.
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

// Lays R, G, B, A bytes on black, as in training. Alpha is not premultiplied.
export function onBlack(rgba, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const alpha = rgba[i * 4 + 3];
    for (let c = 0; c < 3; c++) {
      data[i * 3 + c] = Math.floor((rgba[i * 4 + c] * alpha + 127) / 255);
    }
  }
  return {width, height, data};
}

// An image in the middle of a black one.
function centred(image, width, height) {
  const data = new Uint8Array(width * height * 3);
  const top = Math.floor((height - image.height) / 2);
  const left = Math.floor((width - image.width) / 2);
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(y * image.width * 3, (y + 1) * image.width * 3);
    data.set(row, ((top + y) * width + left) * 3);
  }
  return {width, height, data};
}

// Brings an image to px x px in training's mode: squash, crop or pad.
function squared(image, {px, fit: mode}) {
  const {width, height} = image;
  if (mode === 'squash') return resize(image, px, px);
  if (mode === 'crop') {
    const side = Math.min(width, height);
    const left = Math.floor((width - side) / 2);
    const top = Math.floor((height - side) / 2);
    return resize(window_(image, left, top, side, side), px, px);
  }
  if (mode === 'pad') {
    const longest = Math.max(width, height);
    const inner = resize(image, Math.max(1, roundHalfEven(width * px / longest)),
      Math.max(1, roundHalfEven(height * px / longest)));
    return centred(inner, px, px);
  }
  throw new Error(`deployment.json: input.fit is ${mode}, expected squash, crop or pad`);
}

// The width and height of the input tensor. A file that takes a frame may be no square.
export const inputSize = ({px, frame = [px, px]}) => [frame[1], frame[0]];

// Brings an image to the input's size. One of that size goes in as it is; any other is made a
// square, which lies in the middle of the frame.
export function fit(image, source) {
  const [width, height] = inputSize(source);
  if (image.width === width && image.height === height) return image;
  return centred(squared(image, source), width, height);
}

// Turns resized pixels into the codes of the input tensor: Uint8Array [px * px * channels].
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

// Turns output codes into {answer, scores, set, unsure}. `set` holds the labels that are likely
// enough. An answer is unsure unless `set` holds exactly one label. Where an image may have several
// labels, `set` holds all of them and no answer is unsure.
export function told(codes, contract, labels) {
  const {output, confidence} = contract;
  if (output.kind === 'labels') {
    const {slopes, offsets} = confidence;
    const scores = Array.from(codes, (code, k) => 1 / (1 + Math.exp(
      -(slopes[k] * (code - output.zero_point) * output.scale + offsets[k]))));
    const set = labels.filter((_, k) => scores[k] >= confidence.thresholds[k]);
    return {answer: set.join(' + ') || 'no label', scores, set, unsure: false};
  }
  let best = 0;
  const logits = Array.from(codes, (code, k) => {
    if (code > codes[best]) best = k;
    const real = (code - output.zero_point) * output.scale;
    const logit = output.kind === 'probabilities' ? Math.log(Math.max(real, 1 / 512)) : real;
    return logit / confidence.temperature;
  });
  const top = Math.max(...logits);
  const exps = logits.map((value) => Math.exp(value - top));
  const sum = exps.reduce((a, b) => a + b, 0);
  const scores = exps.map((value) => value / sum);
  const set = labels.filter((_, k) => scores[k] >= confidence.thresholds[k]);
  return {answer: labels[best], scores, set, unsure: set.length !== 1};
}

// Runs the golden images. Resolves to their number; throws an Error that says which image differs
// and how. `decode(name)` returns an image, and `run(codes)` returns the model's output codes.
// `exact`: on a CPU, whose codes may be off by tolerance_lsb. A GPU or an NPU may be off by
// accelerator_tolerance, a share of the spread of an image's stored codes.
export async function selfTest(golden, contract, labels, decode, run, exact = true) {
  for (const row of [...golden.images, golden.pattern]) {
    const small = fit(await decode(row.file), contract.input);
    if (row.fitted) {
      const expected = await decode(row.fitted);
      if (expected.data.length !== small.data.length ||
          expected.data.some((value, i) => value !== small.data[i])) {
        throw new Error(`${row.file}: resizing gives other pixels than in training`);
      }
    }
    const codes = await run(toCodes(small, contract.input));
    if (codes.length !== labels.length) {
      throw new Error(`the label list has ${labels.length} labels, ` +
        `the model has ${codes.length} outputs`);
    }
    const off = Math.max(...Array.from(codes, (code, k) => Math.abs(code - row.codes_uint8[k])));
    const stored = row.codes_uint8;
    const near = golden.accelerator_tolerance * (Math.max(...stored) - Math.min(...stored));
    const allowed = exact ? golden.tolerance_lsb : Math.max(golden.tolerance_lsb, near);
    if (!(off <= allowed)) {
      throw new Error(`${row.file}: the output differs by ${off} LSB from the stored output`);
    }
    const said = told(row.codes_uint8, contract, labels);
    if (said.answer !== row.answer || said.unsure !== row.unsure ||
        said.set.join('\n') !== row.set.join('\n')) {
      throw new Error(`${row.file}: the answer is ${said.answer} (${said.set.join(', ')}), ` +
        `the stored answer is ${row.answer} (${row.set.join(', ')})`);
    }
    if (row.label !== undefined && !labels.includes(row.label)) {
      throw new Error(`${row.file} has the label ${row.label}, which is not in the label list`);
    }
  }
  return golden.images.length + 1;
}
