// Packs page.html, its scripts, the bundle's files and LiteRT.js into one HTML file, which
// loads nothing else. Run `npm install` first, then:
//   node pack.mjs [OUT.html] [BUNDLE]
import {createHash} from 'node:crypto';
import {readFileSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? 'page.html';
const bundle = process.argv[3] ?? join(here, '..', '..');

function bytes(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    const step = path.includes('node_modules')
      ? 'run `npm install` here first' : 'name the bundle: node pack.mjs OUT.html BUNDLE';
    console.error(`${path}: ${error.code}\n  next: ${step}`);
    process.exit(2);
  }
}
const base64 = (path) => bytes(path).toString('base64');
const module_ = (name) => join(here, 'node_modules', '@litertjs', name);

const contract = JSON.parse(bytes(join(bundle, 'deployment.json')));
const golden = JSON.parse(bytes(join(bundle, 'golden', 'golden.json')));
const wanted = [
  contract.model, contract.labels, 'deployment.json', 'golden/golden.json', golden.pattern.file,
  golden.pattern.fitted, 'samples/preprocess_vectors.json', ...golden.images.map((row) => row.file),
];
const files = Object.fromEntries(wanted.map((name) => [name, base64(join(bundle, name))]));
const runtime = {
  core: base64(join(module_('core'), 'dist', 'index.js')),
  utils: base64(join(module_('wasm-utils'), 'dist', 'index.js')),
  glue: base64(join(module_('core'), 'wasm', 'litert_wasm_compat_internal.js')),
  wasm: base64(join(module_('core'), 'wasm', 'litert_wasm_compat_internal.wasm')),
};
// Writes "<" as an escape, so that no text in a file can end the script element that holds it.
const json = (value) => JSON.stringify(value).replaceAll('<', '\\u003c');
const inline = (name) => bytes(join(here, name)).toString('utf8')
  .replace(/^import .*$/gm, '').replace(/^export /gm, '').replaceAll('</script', '<\\/script');
const page = bytes(join(here, 'page.html')).toString('utf8')
  .replace('/*FILES*/', () => json(files))
  .replace('/*RUNTIME*/', () => json(runtime))
  .replace('/*LOGIC*/', () => ['edgekd.js', 'decode.js', 'vectors.js'].map(inline).join(''))
  .replace('/*APP*/', () => inline('app.js'));
writeFileSync(out, page);
const sha256 = createHash('sha256').update(page).digest('hex');
console.log(`${out}: ${Buffer.byteLength(page)} bytes, sha256 ${sha256}`);
