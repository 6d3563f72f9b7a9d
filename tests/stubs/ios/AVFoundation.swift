// Signatures of Apple's AVFoundation, as far as the sample uses them, for type-checking it.
// Nothing here works.
@_exported import CoreVideo
@_exported import Foundation

public typealias CVImageBuffer = CVPixelBuffer
public final class CMSampleBuffer {}
public func CMSampleBufferGetImageBuffer(_ s: CMSampleBuffer) -> CVImageBuffer? { nil }
open class CALayer {
    public var frame = CGRect.zero
    public init() {}
    public func addSublayer(_ l: CALayer) {}
}
public struct AVMediaType { public static let video = AVMediaType() }
public struct AVLayerVideoGravity { public static let resizeAspectFill = AVLayerVideoGravity() }
open class AVCaptureInput { public init() {} }
open class AVCaptureOutput { public init() {} }
public final class AVCaptureConnection {}
public final class AVCaptureDeviceInput: AVCaptureInput {
    public init(device: AVCaptureDevice) throws {}
}
public final class AVCaptureDevice {
    public struct DeviceType { public static let builtInWideAngleCamera = DeviceType() }
    public enum Position { case back, front }
    public class func requestAccess(for m: AVMediaType) async -> Bool { true }
    public class func `default`(_ t: DeviceType, for m: AVMediaType?, position: Position)
        -> AVCaptureDevice?
    { nil }
    public final class RotationCoordinator {
        public init(device: AVCaptureDevice, previewLayer: CALayer?) {}
        public var videoRotationAngleForHorizonLevelCapture: CGFloat { 0 }
    }
}
public protocol AVCaptureVideoDataOutputSampleBufferDelegate: AnyObject {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer,
        from connection: AVCaptureConnection)
}
public final class AVCaptureVideoDataOutput: AVCaptureOutput {
    public override init() {}
    public var videoSettings: [String: Any]!
    public var alwaysDiscardsLateVideoFrames = false
    public func setSampleBufferDelegate(
        _ d: AVCaptureVideoDataOutputSampleBufferDelegate?, queue: DispatchQueue?
    ) {}
}
public final class AVCaptureSession {
    public struct Preset { public static let vga640x480 = Preset() }
    public init() {}
    public var sessionPreset = Preset()
    public func beginConfiguration() {}
    public func commitConfiguration() {}
    public func canAddInput(_ i: AVCaptureInput) -> Bool { true }
    public func canAddOutput(_ o: AVCaptureOutput) -> Bool { true }
    public func addInput(_ i: AVCaptureInput) {}
    public func addOutput(_ o: AVCaptureOutput) {}
    public func startRunning() {}
}
public final class AVCaptureVideoPreviewLayer: CALayer {
    public init(session: AVCaptureSession) { super.init() }
    public var videoGravity = AVLayerVideoGravity()
}
