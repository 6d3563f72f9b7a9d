import {decode} from './decode.js';
import {fit, inputSize, selfTest, toCodes, told} from './edgekd.js';
import {checkVectors} from './vectors.js';

const element = (id) => document.getElementById(id);
const packed = (id) => JSON.parse(element(id).textContent);
const unpacked = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const asText = (data) => new TextDecoder('utf-8', {fatal: true}).decode(data);

function say(state, text) {
  element('state').dataset.state = state;
  element('state').textContent = text;
}

// Starts LiteRT.js from the parts that the page holds.
async function runtime() {
  const parts = packed('runtime');
  const script = (data) => URL.createObjectURL(new Blob([data], {type: 'text/javascript'}));
  const utils = script(unpacked(parts.utils));
  const core = asText(unpacked(parts.core))
    .replace('"@litertjs/wasm-utils"', JSON.stringify(utils));
  const litert = await import(script(core));
  self.Module = {wasmBinary: unpacked(parts.wasm)};
  await litert.loadLiteRt(`${script(unpacked(parts.glue))}#litert_wasm_compat_internal.js`);
  return litert;
}

// Loads the model and runs the self-test. Resolves to a function that classifies an image file.
async function start() {
  const files = packed('files');
  const read = (name) => unpacked(files[name]);
  const contract = JSON.parse(asText(read('deployment.json')));
  const labels = asText(read(contract.labels)).split(/\r?\n/)
    .filter((line, i, all) => line || i < all.length - 1);
  const golden = JSON.parse(asText(read('golden/golden.json')));
  const vectors = JSON.parse(asText(read('samples/preprocess_vectors.json')));
  const {checked} = await checkVectors(vectors, decode);
  const litert = await runtime();
  const model = await litert.loadAndCompile(read(contract.model), {accelerator: 'wasm'});
  const [width, height] = inputSize(contract.input);
  const shape = [1, height, width, contract.input.channels];
  const run = async (codes) => {
    const input = new litert.Tensor(codes, shape);
    const outputs = await model.run(input);
    const found = Uint8Array.from(outputs[0].toTypedArray());
    input.delete();
    outputs.forEach((output) => output.delete());
    return found;
  };
  const decodePacked = (name) => decode(new Blob([read(name)], {type: 'image/png'}));
  const count = await selfTest(golden, contract, labels, decodePacked, run);
  say('ready', `Self-test passed on ${count} images and ${checked} preprocessing vectors. ` +
    'Your images do not leave this page.');
  return async (blob) => {
    const image = await decode(blob);
    const begun = performance.now();
    const small = fit(image, contract.input);
    const codes = await run(toCodes(small, contract.input));
    return {
      ...told(codes, contract, labels), labels, codes: Array.from(codes),
      ms: performance.now() - begun,
    };
  };
}

function show(found, name) {
  // The model's output codes, for tests that compare them.
  element('result').dataset.codes = JSON.stringify(found.codes);
  element('result').hidden = false;
  element('name').textContent = name;
  element('verdict').dataset.unsure = found.unsure;
  const candidates = found.set.join(' or ') || 'no label is likely enough';
  element('verdict').textContent = found.unsure ? `Unsure: ${candidates}` : found.answer;
  const list = element('scores');
  list.replaceChildren(...found.labels.map((label, k) => {
    const row = document.createElement('li');
    const meter = document.createElement('meter');
    meter.value = found.scores[k];
    meter.setAttribute('aria-label', label);
    const text = document.createElement('span');
    text.textContent = label;
    const figure = document.createElement('b');
    figure.textContent = `${(100 * found.scores[k]).toFixed(1)} %`;
    row.append(text, meter, figure);
    return row;
  }));
  element('time').textContent = `${found.ms.toFixed(1)} ms in this browser, including resizing`;
}

let classify = null;
async function take(file) {
  if (!classify || !file) return;
  try {
    const found = await classify(file);
    const preview = element('preview');
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    show(found, file.name);
  } catch (error) {
    element('result').hidden = true;
    say('ready', `${file.name} cannot be used: ${error.message}`);
  }
}

const drop = element('drop');
for (const kind of ['dragover', 'drop']) {
  document.addEventListener(kind, (event) => event.preventDefault());
}
document.addEventListener('dragover', () => { drop.dataset.over = 'true'; });
document.addEventListener('dragleave', () => { drop.dataset.over = 'false'; });
document.addEventListener('drop', (event) => {
  drop.dataset.over = 'false';
  take(event.dataTransfer.files[0]);
});
element('file').addEventListener('change', (event) => take(event.target.files[0]));

start().then((ready) => {
  classify = ready;
  element('file').disabled = false;
}, (error) => say('refused', `Refused: ${error.message}. ` +
  'This copy would give other answers than the certified model.'));
