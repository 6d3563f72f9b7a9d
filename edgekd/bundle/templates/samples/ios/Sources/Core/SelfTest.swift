// The golden images: what every correct copy of the model answers.
import Foundation

/// What runs the model: which file it reads, and how exact it has to be.
enum Accelerator: String, CaseIterable, Identifiable {
    case cpu = "CPU"
    case metal = "Metal"
    case coreML = "Core ML"

    var id: String { rawValue }
}

struct SelfTest {
    private struct Golden: Decodable {
        struct Row: Decodable {
            let file: String
            let fitted: String?
            let label: String?
            let codesUint8: [UInt8]
            let answer: String
            let set: [String]
            let unsure: Bool
        }

        let toleranceLsb: Int
        let acceleratorTolerance: Double
        let images: [Row]
        let pattern: Row
    }

    private struct FloatAnswers: Decodable {
        let images: Int
        let tolerance: Double
        let answers: [String: [[Double]]]
    }

    private let contract: Contract
    private let golden: Golden
    private let read: (String) throws -> Data

    /// `read` returns the bytes of a file of the bundle.
    init(_ contract: Contract, read: @escaping (String) throws -> Data) throws {
        self.contract = contract
        self.read = read
        golden = try snakeCase.decode(Golden.self, from: read("golden/golden.json"))
    }

    /// Runs the int8 file on all golden images. Returns their number; throws Refused, which names
    /// the first image that differs.
    ///
    /// `decode` turns a PNG into a picture. `infer` returns the real outputs for input codes. The
    /// CPU has to give the stored codes within golden.json's tolerance_lsb. Metal computes in
    /// floating point: its outputs may be off by accelerator_tolerance of an image's spread.
    func run(
        _ accelerator: Accelerator, decode: (Data) throws -> Picture,
        infer: ([UInt8]) throws -> [Double]
    ) throws -> Int {
        let rows = golden.images + [golden.pattern]
        for row in rows {
            let small = try fitted(row, decode)
            let stored = contract.reals(row.codesUint8)
            let found = try infer(Preprocess.codes(small, contract.input))
            let exact = Double(golden.toleranceLsb) * contract.output.scale
            let allowed = accelerator == .cpu
                ? exact : max(exact, golden.acceleratorTolerance * spread(stored))
            try compare(row.file, found, stored, allowed)
            try checkMeaning(row, stored)
        }
        return rows.count
    }

    /// Runs a float file on the golden images that golden/formats.json has answers for.
    func run(
        float file: FloatFile, decode: (Data) throws -> Picture,
        infer: ([Double]) throws -> [Double]
    ) throws -> Int {
        let kept = try snakeCase.decode(FloatAnswers.self, from: read("golden/formats.json"))
        guard let answers = kept.answers[file.file] else {
            throw Refused("golden/formats.json has no answers of \(file.file)")
        }
        for (row, stored) in zip(golden.images, answers) {
            let pixels = Preprocess.normalized(
                try fitted(row, decode), order: contract.input.order, mean: file.mean,
                std: file.std)
            try compare(row.file, try infer(pixels), stored, kept.tolerance * spread(stored))
        }
        return kept.images
    }

    /// A golden image at the input's size. The pattern shows a wrong resize or channel order.
    private func fitted(_ row: Golden.Row, _ decode: (Data) throws -> Picture) throws -> Picture {
        let small = try Preprocess.fit(try decode(try read(row.file)), contract.input)
        if let file = row.fitted, try decode(try read(file)) != small {
            throw Refused("\(row.file): resizing gives other pixels than in training")
        }
        return small
    }

    private func spread(_ reals: [Double]) -> Double { reals.max()! - reals.min()! }

    /// The outputs lie within `allowed` of the stored ones.
    private func compare(
        _ file: String, _ found: [Double], _ stored: [Double], _ allowed: Double
    ) throws {
        guard found.count == stored.count else {
            throw Refused("\(stored.count) stored outputs, but the model has \(found.count)")
        }
        let off = zip(found, stored).map { abs($0 - $1) }.max()!
        if !(off <= allowed * (1 + 1e-9)) {
            throw Refused("\(file): an output is off by \(off), allowed are \(allowed)")
        }
    }

    /// deployment.json and labels.txt make the stored answer of the stored codes.
    private func checkMeaning(_ row: Golden.Row, _ stored: [Double]) throws {
        let said = try contract.told(stored)
        if said.label != row.answer || said.set != row.set || said.unsure != row.unsure {
            throw Refused("\(row.file): the answer is \(said.label) \(said.set), "
                + "the stored answer is \(row.answer) \(row.set)")
        }
        if let label = row.label, !contract.labels.contains(label) {
            throw Refused("\(row.file) has the label \(label), which is not in the label list")
        }
    }
}
