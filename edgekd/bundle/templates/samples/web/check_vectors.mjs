// Checks the preprocessing without a browser: node check_vectors.mjs [BUNDLE]
import {readFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {checkVectors} from './vectors.js';

const bundle = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const file = join(bundle, 'samples', 'preprocess_vectors.json');
try {
  const {checked, left} = await checkVectors(JSON.parse(readFileSync(file)));
  console.log(`${checked} vectors passed; ${left} need a browser or a camera`);
} catch (error) {
  console.error(`failed: ${error.message}`);
  process.exit(1);
}
