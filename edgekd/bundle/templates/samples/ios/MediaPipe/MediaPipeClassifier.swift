// The same model through MediaPipe Tasks, which reads labels and normalization from the model's
// metadata. Put this file into an app that has the pod MediaPipeTasksVision.
//
// MediaPipe resizes images by its own method, and squashes them whatever deployment.json says. Its
// answers to the golden images, which need no resizing, are the certified ones. To camera frames
// they are near those, and not equal.
import CoreMedia
import Foundation
import MediaPipeTasksVision

final class MediaPipeClassifier {
    private let classifier: ImageClassifier

    /// `model`: the path of the bundle's model.tflite.
    init(model: String) throws {
        let options = ImageClassifierOptions()
        options.baseOptions.modelAssetPath = model
        options.runningMode = .video
        classifier = try ImageClassifier(options: options)
    }

    /// The labels of a frame with their scores, the best one first. `milliseconds` must grow from
    /// frame to frame.
    func classify(
        _ sample: CMSampleBuffer, orientation: UIImage.Orientation, milliseconds: Int
    ) throws -> [(label: String, score: Float)] {
        let image = try MPImage(sampleBuffer: sample, orientation: orientation)
        let result = try classifier.classify(
            videoFrame: image, timestampInMilliseconds: milliseconds)
        let categories = result.classificationResult.classifications.first?.categories ?? []
        return categories.map { ($0.categoryName ?? "\($0.index)", $0.score) }
    }
}
