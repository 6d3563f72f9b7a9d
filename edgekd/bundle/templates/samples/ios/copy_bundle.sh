#!/bin/sh
# Copies the bundle's files, which lie two folders up, to where project.yml takes them from.
set -e
here=$(cd "$(dirname "$0")" && pwd)
from=${1:-$here/../..}
rm -rf "$here/bundle"
mkdir -p "$here/bundle/samples"
for name in model.tflite labels.txt deployment.json golden formats; do
    if [ -e "$from/$name" ]; then cp -R "$from/$name" "$here/bundle/"; fi
done
cp "$from/samples/preprocess_vectors.json" "$here/bundle/samples/"
