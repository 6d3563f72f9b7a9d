// Signatures of Apple's ImageIO, as far as the sample uses them, for type-checking it on Linux.
// Nothing here works.
import CoreGraphics
import Foundation

public final class CGImageSource {}
public func CGImageSourceCreateWithData(_ data: CFData, _ o: CFDictionary?) -> CGImageSource? {
    nil
}
public func CGImageSourceCopyPropertiesAtIndex(_ s: CGImageSource, _ i: Int, _ o: CFDictionary?)
    -> Any?
{ nil }
public func CGImageSourceCreateImageAtIndex(_ s: CGImageSource, _ i: Int, _ o: CFDictionary?)
    -> CGImage?
{ nil }
public let kCGImagePropertyPixelWidth = CFString(name: 1)
public let kCGImagePropertyPixelHeight = CFString(name: 1)
public let kCGImagePropertyOrientation = CFString(name: 1)
