// Runs the sample's own Contract, Preprocess, SelfTest and Vectors on Linux. Foundation decodes no
// PNG there, so the bundle's images are binary PPM under the names of the PNG. Answers come from a
// file of (input codes, output codes): any other input, which a wrong resize or channel order
// makes, finds none.
//
//   self_test BUNDLE ANSWERS ACCELERATOR [STEPS that each output is off]
import Foundation

struct ImageFile {
    static func decode(_ file: Data) throws -> Picture {
        let parts = file.split(separator: 10, maxSplits: 3, omittingEmptySubsequences: false)
        let sides = String(decoding: parts[1], as: UTF8.self).split(separator: " ").map { Int($0)! }
        return Picture(width: sides[0], height: sides[1], data: [UInt8](parts[3]))
    }
}

@main
struct Runner {
    static func main() throws {
        let arguments = CommandLine.arguments
        let bundle = URL(fileURLWithPath: arguments[1])
        let text = try String(contentsOfFile: arguments[2], encoding: .utf8)
        let accelerator = Accelerator(rawValue: arguments[3])!
        let steps = arguments.count > 4 ? Int(arguments[4])! : 0
        var known: [Data: [UInt8]] = [:]
        for line in text.split(separator: "\n") {
            let row = line.split(separator: " ")
            known[Data(base64Encoded: String(row[0]))!] = row[1].split(separator: ",").map {
                UInt8($0)!
            }
        }
        let read = { try Data(contentsOf: bundle.appendingPathComponent($0)) }
        do {
            let contract = try Contract(read: read)
            let test = try SelfTest(contract, read: read)
            let answer: ([UInt8]) throws -> [Double] = { input in
                guard let codes = known[Data(input)] else {
                    throw Refused("an input that the host never made")
                }
                return contract.reals(codes.map { UInt8(clamping: Int($0) + steps) })
            }
            let count: Int
            if let file = contract.floatFiles.first, accelerator == .coreML {
                count = try test.run(float: file, decode: ImageFile.decode) { pixels in
                    try answer(
                        pixels.indices.map { index in
                            let channel = index % file.mean.count
                            let share = pixels[index] * file.std[channel] + file.mean[channel]
                            return UInt8((255 * share).rounded())
                        })
                }
            } else {
                count = try test.run(accelerator, decode: ImageFile.decode, infer: answer)
            }
            let vectors = try Vectors(try read("samples/preprocess_vectors.json")).check()
            print("passed \(count) \(vectors)")
        } catch let error as Refused {
            print("refused \(error)")
        }
    }
}
