// The preprocessing of training, without any framework of Apple. Resizing equals Pillow's bilinear
// filter bit for bit.
import Foundation

/// An image: its R, G, B bytes, row by row.
struct Picture: Equatable {
    let width: Int
    let height: Int
    var data: [UInt8]

    init(width: Int, height: Int, data: [UInt8]? = nil) {
        self.width = width
        self.height = height
        self.data = data ?? [UInt8](repeating: 0, count: 3 * width * height)
    }
}

/// Bytes of a picture. The sample of column x and row y starts at y * rowStride + x * pixelStride.
struct Plane {
    let data: UnsafeRawBufferPointer
    let rowStride: Int
    let pixelStride: Int

    func at(_ x: Int, _ y: Int, _ sample: Int = 0) -> Int {
        Int(data[y * rowStride + x * pixelStride + sample])
    }
}

enum Preprocess {
    /// As in Pillow's Resample.c: 32 bits, less 8 bits for the pixel and 2 bits of headroom.
    private static let precisionBits = 22

    /// The pixels that one pixel of the result is made of, in fixed point.
    private struct Weights {
        let first: Int
        let values: [Int]
    }

    /// The filter along one axis: a triangle, wider by the factor by which the image shrinks.
    private static func coefficients(_ size: Int, _ target: Int) -> [Weights] {
        let scale = Double(size) / Double(target)
        let width = max(scale, 1)
        return (0..<target).map { i in
            let centre = (Double(i) + 0.5) * scale
            let first = max(Int(centre - width + 0.5), 0)
            let end = min(Int(centre + width + 0.5), size)
            let raw: [Double] = (first..<end).map { x in
                let offset: Double = Double(x) - centre + 0.5
                return max(1 - abs(offset * (1 / width)), 0)
            }
            let sum: Double = raw.reduce(0, +)
            let one = Double(1 << precisionBits)
            let values: [Int] = raw.map { weight in
                let share: Double = sum != 0 ? weight / sum : weight
                return Int(share * one + 0.5)
            }
            return Weights(first: first, values: values)
        }
    }

    private static func byte(_ sum: Int) -> UInt8 {
        UInt8(min(max(sum >> precisionBits, 0), 255))
    }

    /// Resizes along the width and then along the height. Each step rounds to 8 bits.
    static func resize(_ image: Picture, width: Int, height: Int) -> Picture {
        let across = width == image.width ? image : resizedAcross(image, width)
        return height == image.height ? across : resizedDown(across, height)
    }

    private static func resizedAcross(_ image: Picture, _ width: Int) -> Picture {
        let columns = coefficients(image.width, width)
        var next = Picture(width: width, height: image.height)
        image.data.withUnsafeBufferPointer { data in
            for y in 0..<image.height {
                for x in 0..<width {
                    for c in 0..<3 {
                        var sum = 1 << (precisionBits - 1)
                        var at = 3 * (y * image.width + columns[x].first) + c
                        for weight in columns[x].values {
                            sum += Int(data[at]) * weight
                            at += 3
                        }
                        next.data[3 * (y * width + x) + c] = byte(sum)
                    }
                }
            }
        }
        return next
    }

    private static func resizedDown(_ image: Picture, _ height: Int) -> Picture {
        let rows = coefficients(image.height, height)
        let row = 3 * image.width
        var next = Picture(width: image.width, height: height)
        image.data.withUnsafeBufferPointer { data in
            for y in 0..<height {
                for x in 0..<row {
                    var sum = 1 << (precisionBits - 1)
                    var at = rows[y].first * row + x
                    for weight in rows[y].values {
                        sum += Int(data[at]) * weight
                        at += row
                    }
                    next.data[y * row + x] = byte(sum)
                }
            }
        }
        return next
    }

    private static func window(
        _ image: Picture, left: Int, top: Int, width: Int, height: Int
    ) -> Picture {
        var data = [UInt8]()
        data.reserveCapacity(3 * width * height)
        for y in top..<(top + height) {
            let start = 3 * (y * image.width + left)
            data += image.data[start..<(start + 3 * width)]
        }
        return Picture(width: width, height: height, data: data)
    }

    /// Rounds half to even, as NumPy's rint and Python's round do.
    private static func even(_ value: Double) -> Double { value.rounded(.toNearestOrEven) }

    /// An image in the middle of a black one.
    private static func centred(_ image: Picture, width: Int, height: Int) -> Picture {
        var made = Picture(width: width, height: height)
        let (top, left) = ((height - image.height) / 2, (width - image.width) / 2)
        for y in 0..<image.height {
            let start = 3 * ((top + y) * width + left)
            let row = image.data[(3 * y * image.width)..<(3 * (y + 1) * image.width)]
            made.data.replaceSubrange(start..<(start + row.count), with: row)
        }
        return made
    }

    /// Brings an image to px x px in training's mode: squash, crop or pad.
    private static func squared(_ image: Picture, _ px: Int, _ mode: String) throws -> Picture {
        switch mode {
        case "squash":
            return resize(image, width: px, height: px)
        case "crop":
            let side = min(image.width, image.height)
            let part = window(
                image, left: (image.width - side) / 2, top: (image.height - side) / 2,
                width: side, height: side)
            return resize(part, width: px, height: px)
        case "pad":
            let longest = Double(max(image.width, image.height))
            let inner = resize(
                image,
                width: max(1, Int(even(Double(image.width * px) / longest))),
                height: max(1, Int(even(Double(image.height * px) / longest))))
            return centred(inner, width: px, height: px)
        default:
            throw Refused("input.fit is \(mode), expected squash, crop or pad")
        }
    }

    /// Brings an image to the input's size. One of that size goes in as it is; any other is made a
    /// square, which lies in the middle of the frame.
    static func fit(_ image: Picture, _ input: InputSide) throws -> Picture {
        if image.width == input.width && image.height == input.height { return image }
        let square = try squared(image, input.px, input.fit)
        return centred(square, width: input.width, height: input.height)
    }

    /// Turns resized pixels into the codes of the uint8 input tensor.
    static func codes(_ image: Picture, _ input: InputSide) -> [UInt8] {
        normalized(image, order: input.order, mean: input.mean, std: input.std).map {
            UInt8(min(max(even($0 / input.scale) + Double(input.zeroPoint), 0), 255))
        }
    }

    /// Turns resized pixels into (pixel / 255 - mean) / std, one mean for each channel.
    static func normalized(
        _ image: Picture, order: String, mean: [Double], std: [Double]
    ) -> [Double] {
        var made = [Double]()
        made.reserveCapacity(image.width * image.height * mean.count)
        for i in stride(from: 0, to: image.data.count, by: 3) {
            for c in mean.indices {
                let pixel = image.data[i + (order == "BGR" ? 2 - c : c)]
                made.append((Double(pixel) / 255 - mean[c]) / std[c])
            }
        }
        return made
    }

    /// Turns an image upright, by the numbers of EXIF: 3, 6 and 8 turn it clockwise by 180, 90 and
    /// 270 degrees, and the others mirror it too.
    static func upright(_ image: Picture, _ orientation: Int) -> Picture {
        if orientation <= 1 { return image }
        let turned = orientation >= 5
        var made = Picture(
            width: turned ? image.height : image.width, height: turned ? image.width : image.height)
        let left = [2, 3, 6, 7].contains(orientation)
        let up = [3, 4, 7, 8].contains(orientation)
        for y in 0..<made.height {
            for x in 0..<made.width {
                let column = left ? made.width - 1 - x : x
                let row = up ? made.height - 1 - y : y
                let from = 3 * (turned ? column * image.width + row : row * image.width + column)
                let to = 3 * (y * made.width + x)
                for c in 0..<3 { made.data[to + c] = image.data[from + c] }
            }
        }
        return made
    }

    /// Packed pixels as a picture. `places`: where red, green and blue lie in a pixel. `alpha`:
    /// where alpha lies, if there is one; it is not premultiplied, and transparent pixels lie on
    /// black.
    static func picture(
        _ plane: Plane, width: Int, height: Int, places: [Int], alpha: Int? = nil
    ) -> Picture {
        var made = Picture(width: width, height: height)
        for y in 0..<height {
            for x in 0..<width {
                let opaque = alpha.map { plane.at(x, y, $0) } ?? 255
                for c in 0..<3 {
                    let value = (plane.at(x, y, places[c]) * opaque + 127) / 255
                    made.data[3 * (y * width + x) + c] = UInt8(value)
                }
            }
        }
        return made
    }

    /// A YUV 4:2:0 frame as a picture: full-range BT.601 (JFIF), times 2 ** 16. U and V have one
    /// sample for each 2 x 2 pixels.
    static func picture(y luma: Plane, u: Plane, v: Plane, width: Int, height: Int) -> Picture {
        var made = Picture(width: width, height: height)
        for y in 0..<height {
            for x in 0..<width {
                let grey = (luma.at(x, y) << 16) + (1 << 15)
                let blue = u.at(x / 2, y / 2) - 128
                let red = v.at(x / 2, y / 2) - 128
                let rgb = [
                    grey + 91881 * red, grey - 22554 * blue - 46802 * red, grey + 116130 * blue,
                ]
                for c in 0..<3 {
                    made.data[3 * (y * width + x) + c] = UInt8(min(max(rgb[c] >> 16, 0), 255))
                }
            }
        }
        return made
    }
}
