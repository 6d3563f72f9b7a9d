// Checks the preprocessing without a model, on macOS or Linux: swift run check_vectors BUNDLE
import Foundation

guard CommandLine.arguments.count == 2 else {
    print("usage: check_vectors BUNDLE")
    exit(2)
}
let file = URL(fileURLWithPath: CommandLine.arguments[1])
    .appendingPathComponent("samples/preprocess_vectors.json")
do {
    print("\(try Vectors(try Data(contentsOf: file)).check()) vectors passed")
} catch {
    print("failed: \(error)")
    exit(1)
}
