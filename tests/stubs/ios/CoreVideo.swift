// Signatures of Apple's CoreVideo, as far as the sample uses them, for type-checking it on Linux.
// Nothing here works.
import Foundation

public final class CVPixelBuffer {}
public struct CVPixelBufferLockFlags: OptionSet {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}
@discardableResult public func CVPixelBufferLockBaseAddress(
    _ b: CVPixelBuffer, _ f: CVPixelBufferLockFlags
) -> Int32 { 0 }
@discardableResult public func CVPixelBufferUnlockBaseAddress(
    _ b: CVPixelBuffer, _ f: CVPixelBufferLockFlags
) -> Int32 { 0 }
public func CVPixelBufferGetBytesPerRow(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetWidth(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetHeight(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetBaseAddress(_ b: CVPixelBuffer) -> UnsafeMutableRawPointer? { nil }
public let kCVPixelBufferPixelFormatTypeKey = "x"
public let kCVPixelFormatType_32BGRA: UInt32 = 0
