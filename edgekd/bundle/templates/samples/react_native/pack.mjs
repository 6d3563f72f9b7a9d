// Copies what the app needs into a folder of the app: node pack.mjs APP/src/edgekd [BUNDLE]
import {copyFileSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [out, bundle = join(here, '..', '..')] = process.argv.slice(2);
if (!out) {
  console.error('usage: node pack.mjs APP/src/edgekd [BUNDLE]');
  process.exit(2);
}
const json = (name) => JSON.parse(readFileSync(join(bundle, name), 'utf8'));
const contract = json('deployment.json');
const golden = json('golden/golden.json');
const labels = readFileSync(join(bundle, contract.labels), 'utf8').split(/\r?\n/);
if (labels.at(-1) === '') labels.pop();
const names = [golden.pattern.fitted, ...[...golden.images, golden.pattern].map((row) => row.file)];
const images = Object.fromEntries(
  names.map((name) => [name, readFileSync(join(bundle, name)).toString('base64')]));
const vectors = json('samples/preprocess_vectors.json');
mkdirSync(out, {recursive: true});
writeFileSync(
  join(out, 'bundle.json'), JSON.stringify({contract, labels, golden, images, vectors}));
copyFileSync(join(bundle, contract.model), join(out, 'model.tflite'));
copyFileSync(join(here, 'classifier.ts'), join(out, 'classifier.ts'));
for (const name of ['edgekd.js', 'vectors.js']) {
  copyFileSync(join(here, '..', 'web', name), join(out, name));
}
console.log(`${out}: classifier.ts, model.tflite, bundle.json and two scripts`);
