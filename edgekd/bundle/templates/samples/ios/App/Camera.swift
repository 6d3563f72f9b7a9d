// The camera's frames as upright pictures.
import AVFoundation
import CoreVideo

/// Hands each frame that finds the app free to `take`, on a queue of its own.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    let session = AVCaptureSession()
    let preview: AVCaptureVideoPreviewLayer

    private let queue = DispatchQueue(label: "edgekd.camera")
    private var rotation: AVCaptureDevice.RotationCoordinator?
    private var take: (Picture) -> Void = { _ in }

    override init() {
        preview = AVCaptureVideoPreviewLayer(session: session)
        preview.videoGravity = .resizeAspectFill
        super.init()
    }

    /// Asks for permission and starts. Throws Refused when there is no camera or no permission.
    func start(take: @escaping (Picture) -> Void) async throws {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            throw Refused("the camera is not allowed; allow it in Settings > Privacy > Camera")
        }
        let back = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back)
        guard let device = back else { throw Refused("this device has no camera") }
        self.take = take
        try connect(device)
        rotation = AVCaptureDevice.RotationCoordinator(device: device, previewLayer: preview)
        queue.async { self.session.startRunning() }
    }

    /// BGRA frames of 640 x 480 on the queue. Frames that come while one is looked at are dropped.
    private func connect(_ device: AVCaptureDevice) throws {
        let input = try AVCaptureDeviceInput(device: device)
        let output = AVCaptureVideoDataOutput()
        output.videoSettings = [
            kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA
        ]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.sessionPreset = .vga640x480
        guard session.canAddInput(input), session.canAddOutput(output) else {
            throw Refused("the camera gives no frames to this app")
        }
        session.addInput(input)
        session.addOutput(output)
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sample: CMSampleBuffer,
        from connection: AVCaptureConnection
    ) {
        guard let frame = CMSampleBufferGetImageBuffer(sample) else { return }
        let angle = Int(rotation?.videoRotationAngleForHorizonLevelCapture ?? 0)
        take(Preprocess.upright(Camera.picture(frame), Camera.orientation(angle)))
    }

    /// The EXIF orientation of a frame that has to be turned clockwise by `angle` degrees.
    private static func orientation(_ angle: Int) -> Int {
        [0: 1, 90: 6, 180: 3, 270: 8][(angle % 360 + 360) % 360] ?? 1
    }

    /// A BGRA frame as a picture. Its rows may be padded.
    private static func picture(_ frame: CVPixelBuffer) -> Picture {
        CVPixelBufferLockBaseAddress(frame, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(frame, .readOnly) }
        let rows = CVPixelBufferGetBytesPerRow(frame)
        let (width, height) = (CVPixelBufferGetWidth(frame), CVPixelBufferGetHeight(frame))
        let data = UnsafeRawBufferPointer(
            start: CVPixelBufferGetBaseAddress(frame), count: rows * height)
        let plane = Plane(data: data, rowStride: rows, pixelStride: 4)
        return Preprocess.picture(plane, width: width, height: height, places: [2, 1, 0])
    }
}
