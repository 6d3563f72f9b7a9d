#!/bin/sh
# Packs this bundle, with both services, as a Debian package for a Raspberry Pi:
#
#   sh make_deb.sh [WHEEL.whl ...]      writes PACKAGE_VERSION_ARCH.deb into the current folder
#
# Debian has no package of the TFLite runtime. Name its wheels for the Pi, and they go into the
# package: one for each Python (Raspberry Pi OS 12 has 3.11, and 13 has 3.13). To fetch them:
#
#   for python in 3.11 3.13; do python3 -m pip download --no-deps --only-binary=:all: \
#       --python-version $python --platform manylinux_2_27_aarch64 ai-edge-litert; done
#
# Without wheels, the package is for every processor, and the services say what to install.
# VERSION, MAINTAINER and SOURCE_DATE_EPOCH in the environment change these. Needs dpkg-deb, and
# unzip or python3 for wheels.
set -eu

identifier=@@IDENTIFIER@@
package=edgekd-$(echo "$identifier" | tr _ -)
version=${VERSION:-1.0}
maintainer=${MAINTAINER:-nobody <nobody@localhost>}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800} # equal files make an equal package
export SOURCE_DATE_EPOCH
bundle=$(cd "$(dirname "$0")/../.." && pwd)

fail() {
    echo "make_deb.sh: $1" >&2
    exit 2
}

command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing; run this on Debian or Raspberry Pi OS"
for name in deployment.json labels.txt model.tflite golden/golden.json; do
    [ -f "$bundle/$name" ] || fail "$bundle/$name is missing; unpack the whole bundle"
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
home=$root/opt/$identifier
papers=$root/usr/share/doc/$package
units=$root/usr/lib/systemd/system
mkdir -p "$home/samples" "$papers" "$units" "$root/DEBIAN"

cp "$bundle/deployment.json" "$bundle/labels.txt" "$bundle/model.tflite" "$home/"
cp -R "$bundle/golden" "$home/"
cp -R "$bundle/samples/pi" "$home/samples/"
rm -rf "$home/samples/pi/__pycache__"
for name in samples/preprocess_vectors.json certificate.json; do
    [ ! -f "$bundle/$name" ] || cp "$bundle/$name" "$home/$name"
done
for name in README.md licences.json sbom.cdx.json; do
    [ ! -f "$bundle/$name" ] || cp "$bundle/$name" "$papers/"
done
for unit in camera classify; do
    sed "s/edgekd-$unit/$package-$unit/g" "$home/samples/pi/edgekd-$unit.service" \
        >"$units/$package-$unit.service"
    rm "$home/samples/pi/edgekd-$unit.service"
done

arch=all
for wheel in "$@"; do
    [ -f "$wheel" ] || fail "$wheel is not a file"
    file=$(basename "$wheel")
    case $file in
        *-cp3*-manylinux*aarch64*.whl) arch=arm64 ;;
        *-none-any.whl) ;;
        *) fail "$file is not for 64-bit Arm Linux; its name has to end with aarch64.whl" ;;
    esac
    # NAME-VERSION-PYTHON-ABI-PLATFORM.whl: what is for one Python gets a folder of its own
    python=$(echo "$file" | sed -n 's/.*-\(cp3[0-9]*\)-cp3[0-9]*-.*/\1/p')
    target=$home/packages${python:+/$python}
    mkdir -p "$target"
    if command -v unzip >/dev/null; then
        unzip -qo "$wheel" -d "$target"
    else
        python3 -m zipfile -e "$wheel" "$target"
    fi
done

size=$(du -sk "$root" | cut -f1)
cat >"$root/DEBIAN/control" <<CONTROL
Package: $package
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $size
Section: misc
Priority: optional
Depends: python3 (>= 3.9), python3-numpy, python3-pil
Recommends: python3-picamera2
Suggests: python3-opencv
Description: @@NAME@@
 Classifies images and camera frames on this computer. One service shows the
 camera on a page at 127.0.0.1:8080, the other watches a folder. Neither
 starts by itself.
CONTROL
# Both scripts leave everything to systemd. DPKG_ROOT is set where an image is built.
cat >"$root/DEBIAN/postinst" <<POSTINST
#!/bin/sh
set -e
if [ -d "\$DPKG_ROOT/run/systemd/system" ]; then
    systemctl daemon-reload
fi
echo "$package: to start it, type: sudo systemctl enable --now $package-camera"
POSTINST
cat >"$root/DEBIAN/prerm" <<PRERM
#!/bin/sh
set -e
if [ "\$1" = remove ] && [ -d "\$DPKG_ROOT/run/systemd/system" ]; then
    systemctl disable --now $package-camera $package-classify
fi
PRERM
find "$root" -type d -exec chmod 755 {} +
find "$root" -type f -exec chmod 644 {} +
chmod 755 "$root" "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
dpkg-deb --root-owner-group --build "$root" "${package}_${version}_$arch.deb"
