// The bundle's model in React Native, on react-native-fast-tflite. pack.mjs puts this file beside
// the others that it imports.
import {decode as decodePng} from 'fast-png';
import {
  loadTensorflowModel, type ModelSource, type TensorflowModelDelegate,
} from 'react-native-fast-tflite';
import bundle from './bundle.json';
import {fit, inputSize, onBlack, selfTest, toCodes, told} from './edgekd.js';
import {checkVectors} from './vectors.js';

/** R, G, B bytes, row by row. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array;
}

/** `set` holds the labels that are likely enough. */
export interface Answer {
  answer: string;
  scores: number[];
  set: string[];
  unsure: boolean;
}

const bytesOf = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** A PNG of 8 bits, as the golden images are. Transparent pixels lie on black. */
function decode(name: string): Picture {
  const images: Record<string, string> = bundle.images;
  const {width, height, channels, depth, data} = decodePng(bytesOf(images[name] ?? ''));
  if (depth !== 8) throw new Error(`${name} has ${depth} bits a sample, expected 8`);
  const rgba = new Uint8Array(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgba[i * 4 + c] = data[i * channels + (channels < 3 ? 0 : c)] ?? 0;
    rgba[i * 4 + 3] = channels % 2 ? 255 : data[i * channels + channels - 1] ?? 0;
  }
  return onBlack(rgba, width, height);
}

/**
 * Loads the model and tests it on the golden images. Rejects with an Error that says which image
 * differs. Resolves to a function that classifies a picture of any size.
 *
 * `source`: require('./model.tflite'). `delegates`: [] for the CPU, whose answers are exact.
 */
export async function createClassifier(
  source: ModelSource, delegates: TensorflowModelDelegate[] = [],
): Promise<(picture: Picture) => Promise<Answer>> {
  const {contract, labels, golden, vectors} = bundle;
  await checkVectors(vectors);
  const model = await loadTensorflowModel(source, delegates);
  const [width, height] = inputSize(contract.input);
  const shape = [1, height, width, contract.input.channels];
  const [entry] = model.inputs;
  if (entry?.dataType !== 'uint8' || entry.shape.join() !== shape.join()) {
    throw new Error(`the model takes ${entry?.dataType} ${entry?.shape}, not uint8 ${shape}`);
  }
  const run = async (codes: Uint8Array) => {
    const input = new Uint8Array(codes).buffer;
    const [answers] = await model.run([input]); // other outputs of the file are no answers
    return new Uint8Array(answers!);
  };
  await selfTest(golden, contract, labels, decode, run, delegates.length === 0);
  return async (picture) => {
    const codes = await run(toCodes(fit(picture, contract.input), contract.input));
    return told(codes, contract, labels);
  };
}
