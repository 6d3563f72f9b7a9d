// Signatures of TensorFlowLiteSwift (module TensorFlowLite), for type-checking the sample without
// its pod. Nothing here works.
import Foundation

public protocol Delegate: AnyObject {}

public final class MetalDelegate: Delegate {
    public struct Options {
        public var isPrecisionLossAllowed = false
        public var isQuantizationEnabled = true
        public init() {}
    }

    public init(options: Options = Options()) {}
}

public final class CoreMLDelegate: Delegate {
    public struct Options {
        public init() {}
    }

    public init?(options: Options = Options()) { return nil }
}

public struct QuantizationParameters: Equatable, Hashable {
    public let scale: Float
    public let zeroPoint: Int
}

public struct Tensor {
    public enum DataType: Equatable, Hashable {
        case bool, uInt8, int16, int32, int64, float16, float32, float64
    }

    public struct Shape: Equatable, Hashable {
        public let rank: Int
        public let dimensions: [Int]
    }

    public let name: String
    public let dataType: DataType
    public let shape: Shape
    public let data: Data
    public let quantizationParameters: QuantizationParameters?
}

public final class Interpreter {
    public struct Options: Equatable, Hashable {
        public var threadCount: Int?
        public var isXNNPackEnabled = false
        public init() {}
    }

    public init(modelPath: String, options: Options? = nil, delegates: [Delegate]? = nil) throws {}
    public func allocateTensors() throws {}
    public func invoke() throws {}
    public func input(at index: Int) throws -> Tensor { fatalError() }
    public func output(at index: Int) throws -> Tensor { fatalError() }

    @discardableResult
    public func copy(_ data: Data, toInputAt index: Int) throws -> Tensor { fatalError() }
}
