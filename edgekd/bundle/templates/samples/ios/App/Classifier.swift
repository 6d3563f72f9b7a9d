// The model on one accelerator, with its self-test.
import Foundation
import TensorFlowLite

/// The constructor runs the golden images and throws Refused if an answer differs from the stored
/// one by more than the accelerator may. Not thread-safe.
final class Classifier {
    let contract: Contract
    let accelerator: Accelerator
    /// The number of golden images that the self-test ran.
    private(set) var tested = 0

    private let interpreter: Interpreter
    /// The float file, where the accelerator runs one; nil for the int8 file.
    private let floatFile: FloatFile?

    /// `bundle`: the folder that holds deployment.json.
    init(bundle: URL, accelerator: Accelerator) throws {
        let read: (String) throws -> Data = { name in
            do {
                return try Data(contentsOf: bundle.appendingPathComponent(name))
            } catch {
                throw Refused("the app lacks \(name) of the bundle")
            }
        }
        contract = try Contract(read: read)
        self.accelerator = accelerator
        floatFile = try Classifier.floatFile(contract, accelerator)
        let model = bundle.appendingPathComponent(floatFile?.file ?? contract.model).path
        var options = Interpreter.Options()
        options.threadCount = 2
        interpreter = try Interpreter(
            modelPath: model, options: options, delegates: try Classifier.delegates(accelerator))
        try interpreter.allocateTensors()
        try checkTensors()
        _ = try Vectors(try read("samples/preprocess_vectors.json")).check()
        let test = try SelfTest(contract, read: read)
        if let floatFile {
            tested = try test.run(float: floatFile, decode: ImageFile.decode, infer: reals(float:))
        } else {
            tested = try test.run(accelerator, decode: ImageFile.decode, infer: reals(codes:))
        }
    }

    /// Classifies an upright picture of any size.
    func classify(_ picture: Picture) throws -> Answer {
        let small = try Preprocess.fit(picture, contract.input)
        guard let floatFile else {
            return try contract.told(reals(codes: Preprocess.codes(small, contract.input)))
        }
        let pixels = Preprocess.normalized(
            small, order: contract.input.order, mean: floatFile.mean, std: floatFile.std)
        return try contract.told(reals(float: pixels))
    }

    /// Core ML's delegate takes float files alone. Metal's runs the int8 file too.
    private static func floatFile(
        _ contract: Contract, _ accelerator: Accelerator
    ) throws -> FloatFile? {
        guard accelerator == .coreML else { return nil }
        let wanted = ["float16", "float32"].compactMap { format in
            contract.floatFiles.first { $0.format == format }
        }
        guard let file = wanted.first else {
            throw Refused("Core ML needs a float file: build with convert.formats=int8,float16")
        }
        return file
    }

    private static func delegates(_ accelerator: Accelerator) throws -> [Delegate] {
        switch accelerator {
        case .cpu:
            return []
        case .metal:
            var options = MetalDelegate.Options()
            options.isPrecisionLossAllowed = true
            options.isQuantizationEnabled = true
            return [MetalDelegate(options: options)]
        case .coreML:
            guard let delegate = CoreMLDelegate() else {
                throw Refused("this device has no Neural Engine")
            }
            return [delegate]
        }
    }

    private func checkTensors() throws {
        guard floatFile == nil else { return }
        let entry = try interpreter.input(at: 0)
        let stated = contract.input
        guard entry.dataType == .uInt8,
            entry.shape.dimensions == [1, stated.height, stated.width, stated.channels],
            let grid = entry.quantizationParameters,
            grid.scale == Float(stated.scale), grid.zeroPoint == stated.zeroPoint
        else { throw Refused("the model's input differs from deployment.json's") }
    }

    private func reals(codes: [UInt8]) throws -> [Double] {
        contract.reals([UInt8](try output(Data(codes))))
    }

    private func reals(float pixels: [Double]) throws -> [Double] {
        let input = pixels.map(Float.init).withUnsafeBufferPointer { Data(buffer: $0) }
        let found = try output(input)
        return found.withUnsafeBytes { $0.bindMemory(to: Float.self).map(Double.init) }
    }

    private func output(_ input: Data) throws -> Data {
        try interpreter.copy(input, toInputAt: 0)
        try interpreter.invoke()
        return try interpreter.output(at: 0).data // other outputs of the file are no answers
    }
}
