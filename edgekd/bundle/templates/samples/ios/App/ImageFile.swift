// Image files as upright pictures, without a colour conversion.
import CoreGraphics
import Foundation
import ImageIO

enum ImageFile {
    /// A damaged header may claim a huge image. This limit keeps it from filling the memory.
    private static let maxPixels = 64_000_000

    /// Decodes a PNG, JPEG or HEIC file. It is turned upright, and transparent pixels lie on black.
    static func decode(_ file: Data) throws -> Picture {
        guard let source = CGImageSourceCreateWithData(file as CFData, nil),
            let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        else { throw Refused("the file is not a readable image") }
        let width = properties[kCGImagePropertyPixelWidth] as? Int ?? 0
        let height = properties[kCGImagePropertyPixelHeight] as? Int ?? 0
        if width * height > maxPixels { throw Refused("the image has too many pixels") }
        guard let image = CGImageSourceCreateImageAtIndex(source, 0, nil) else {
            throw Refused("the file is not a readable image")
        }
        let orientation = properties[kCGImagePropertyOrientation] as? Int ?? 1
        return Preprocess.upright(try picture(image), orientation)
    }

    /// Draws into the image's own colour space, so that levels are copied and not converted.
    private static func picture(_ image: CGImage) throws -> Picture {
        let grey = image.colorSpace?.model == .monochrome && image.alphaInfo == .none
        let opaque = [.none, .noneSkipFirst, .noneSkipLast].contains(image.alphaInfo)
        // Premultiplied pixels are those that lie on black.
        let alpha: CGImageAlphaInfo =
            grey ? .none : opaque ? .noneSkipLast : .premultipliedLast
        let samples = grey ? 1 : 4
        let own = image.colorSpace?.model == .rgb || grey ? image.colorSpace : nil
        guard let space = own ?? CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: samples * image.width, space: space, bitmapInfo: alpha.rawValue),
            let pixels = context.data
        else { throw Refused("the image's colours cannot be read") }
        context.setBlendMode(.copy)
        let area = CGRect(x: 0, y: 0, width: image.width, height: image.height)
        context.draw(image, in: area)
        let data = UnsafeRawBufferPointer(start: pixels, count: context.bytesPerRow * image.height)
        let plane = Plane(data: data, rowStride: context.bytesPerRow, pixelStride: samples)
        return Preprocess.picture(
            plane, width: image.width, height: image.height, places: grey ? [0, 0, 0] : [0, 1, 2])
    }
}
