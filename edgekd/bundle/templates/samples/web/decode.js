import {onBlack} from './edgekd.js';

// A damaged header may claim a huge image. This limit keeps it from filling the memory.
const MAX_PIXELS = 64e6;

// Decodes an image file. The image is turned upright, and transparent pixels lie on black.
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob,
    {imageOrientation: 'from-image', colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  const {width, height} = bitmap;
  if (width * height > MAX_PIXELS) throw new Error(`${width} x ${height} is too large`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return onBlack(context.getImageData(0, 0, width, height).data, width, height);
}
