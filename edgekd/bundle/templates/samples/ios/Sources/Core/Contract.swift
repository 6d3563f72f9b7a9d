// deployment.json and labels.txt: how to feed the model, and what its output means.
import Foundation

/// The self-test failed, so this copy would give wrong answers, or an image cannot be used.
struct Refused: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// The input tensor, and the preprocessing that leads to it.
struct InputSide: Decodable {
    let px: Int
    let frame: [Int]?
    let channels: Int
    let order: String
    let fit: String
    let mean: [Double]
    let std: [Double]
    let scale: Double
    let zeroPoint: Int

    /// The tensor's sides. A file that takes a frame may be no square.
    var width: Int { frame?[1] ?? px }
    var height: Int { frame?[0] ?? px }
}

/// The first output of the file, its answers. `kind` is logits, probabilities or labels.
struct OutputSide: Decodable {
    let scale: Double
    let zeroPoint: Int
    let kind: String
}

/// When a label belongs to the answer. Each list has a number for each label.
struct AnswerRule: Decodable {
    let temperature: Double?
    let slopes: [Double]?
    let offsets: [Double]?
    let thresholds: [Double]
}

/// A file in another number format, which takes (pixel / 255 - mean) / std.
struct FloatFile: Decodable {
    struct Tensor: Decodable { let dtype: String }

    let format: String
    let file: String
    let mean: [Double]
    let std: [Double]
    let input: Tensor
}

/// The model's answer to one image. `set` holds the labels that are likely enough.
struct Answer {
    let label: String
    let scores: [Double]
    let set: [String]
    let unsure: Bool
}

struct Contract {
    private struct Body: Decodable {
        let name: String
        let model: String
        let labels: String
        let input: InputSide
        let output: OutputSide
        let confidence: AnswerRule
        let formats: [FloatFile]?
        let limits: String
    }

    let name: String
    let model: String
    let labels: [String]
    let input: InputSide
    let output: OutputSide
    let limits: String
    /// The float files of the bundle, which Core ML can run. The int8 file it cannot.
    let floatFiles: [FloatFile]
    private let rule: AnswerRule

    /// `read` returns the bytes of a file of the bundle.
    init(read: (String) throws -> Data) throws {
        let body = try snakeCase.decode(Body.self, from: read("deployment.json"))
        var lines = String(decoding: try read(body.labels), as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.hasSuffix("\r") ? String($0.dropLast()) : String($0) }
        if lines.last == "" { lines.removeLast() }
        name = body.name
        model = body.model
        labels = lines
        input = body.input
        output = body.output
        rule = body.confidence
        limits = body.limits
        floatFiles = (body.formats ?? []).filter { $0.input.dtype == "float32" }
        guard labels.count == rule.thresholds.count else {
            throw Refused("labels.txt does not match deployment.json")
        }
    }

    /// What output codes of the uint8 file mean, as real numbers.
    func reals(_ codes: [UInt8]) -> [Double] {
        codes.map { Double(Int($0) - output.zeroPoint) * output.scale }
    }

    /// Turns the real numbers of the output into an answer. Where an image may have several labels,
    /// the set of the answer holds all of them, and it is never unsure.
    func told(_ reals: [Double]) throws -> Answer {
        guard reals.count == labels.count else {
            throw Refused("\(labels.count) labels, but the model has \(reals.count) outputs")
        }
        let several = output.kind == "labels"
        let scores = several ? try sigmoids(reals) : try softmax(reals)
        let set = labels.indices.filter { scores[$0] >= rule.thresholds[$0] }.map { labels[$0] }
        if several {
            let named = set.isEmpty ? "no label" : set.joined(separator: " + ")
            return Answer(label: named, scores: scores, set: set, unsure: false)
        }
        // The first of equal outputs, as NumPy's argmax.
        let best = reals.firstIndex(of: reals.max()!)!
        return Answer(label: labels[best], scores: scores, set: set, unsure: set.count != 1)
    }

    private func sigmoids(_ reals: [Double]) throws -> [Double] {
        guard let slopes = rule.slopes, let offsets = rule.offsets else {
            throw Refused("deployment.json has no confidence.slopes and offsets")
        }
        return reals.indices.map { 1 / (1 + exp(-(slopes[$0] * reals[$0] + offsets[$0]))) }
    }

    private func softmax(_ reals: [Double]) throws -> [Double] {
        guard let temperature = rule.temperature else {
            throw Refused("deployment.json has no confidence.temperature")
        }
        let probable = output.kind == "probabilities"
        let logits = reals.map { (probable ? log(max($0, 1.0 / 512)) : $0) / temperature }
        let top = logits.max()!
        let powers = logits.map { exp($0 - top) }
        let sum = powers.reduce(0, +)
        return powers.map { $0 / sum }
    }
}

/// Reads the bundle's JSON files, whose names have underscores.
let snakeCase: JSONDecoder = {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return decoder
}()
