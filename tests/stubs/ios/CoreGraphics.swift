// Signatures of Apple's CoreGraphics, as far as the sample uses them, for type-checking it.
// Nothing here works.
import Foundation

public enum CGImageAlphaInfo: UInt32 {
    case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst,
        alphaOnly
}
public enum CGColorSpaceModel { case unknown, monochrome, rgb, cmyk }
public final class CGColorSpace {
    public init?(name: CFString) { return nil }
    public var model: CGColorSpaceModel { .rgb }
    public class var sRGB: CFString { fatalError() }
}
public final class CGImage {
    public var width: Int { 0 }
    public var height: Int { 0 }
    public var alphaInfo: CGImageAlphaInfo { .none }
    public var colorSpace: CGColorSpace? { nil }
}
public enum CGBlendMode { case normal, copy }
public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int,
        bytesPerRow: Int, space: CGColorSpace, bitmapInfo: UInt32
    ) { return nil }
    public var data: UnsafeMutableRawPointer? { nil }
    public var bytesPerRow: Int { 0 }
    public func setBlendMode(_ mode: CGBlendMode) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
public final class CFString: Hashable {
    public init(name: Int) {}
    public static func == (a: CFString, b: CFString) -> Bool { true }
    public func hash(into h: inout Hasher) {}
}
public typealias CFData = Data
public typealias CFDictionary = [CFString: Any]
