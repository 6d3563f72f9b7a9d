#!/bin/sh
# Copies the bundle's files, which lie two folders up, into the app's assets.
set -e
here=$(cd "$(dirname "$0")" && pwd)
from=${1:-$here/../..}
rm -rf "$here/assets/bundle"
mkdir -p "$here/assets/bundle/samples"
for name in model.tflite labels.txt deployment.json golden; do
    cp -R "$from/$name" "$here/assets/bundle/"
done
cp "$from/samples/preprocess_vectors.json" "$here/assets/bundle/samples/"
