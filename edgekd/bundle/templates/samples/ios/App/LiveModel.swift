// What the screen shows: the state of the self-test, the accelerator, and the last answer.
import Foundation
import SwiftUI

@MainActor
final class LiveModel: ObservableObject {
    @Published private(set) var state = "Testing the model on its golden images …"
    @Published private(set) var passed = false
    @Published private(set) var answer = ""
    @Published private(set) var time = ""

    let camera = Camera()
    private let worker = Worker()

    /// Tests the model on an accelerator, or on the CPU where that one does not pass.
    func use(_ wanted: Accelerator) async {
        passed = false
        answer = ""
        state = "Testing the model on its golden images …"
        let (said, good) = await worker.load(wanted)
        state = said
        passed = good
    }

    func startCamera() async {
        do {
            try await camera.start { [worker] picture in
                guard let found = worker.classify(picture) else { return }
                Task { @MainActor in
                    self.answer = found.answer
                    self.time = found.time
                }
            }
        } catch {
            state = "\(error)"
        }
    }
}

/// Holds the classifier. A lock keeps the camera's queue and the loading apart.
final class Worker: @unchecked Sendable {
    private let lock = NSLock()
    private var classifier: Classifier?

    /// What to say of the self-test, and whether it passed.
    func load(_ wanted: Accelerator) async -> (String, Bool) {
        await Task.detached(priority: .userInitiated) { self.loadNow(wanted) }.value
    }

    private func loadNow(_ wanted: Accelerator) -> (String, Bool) {
        lock.lock()
        defer { lock.unlock() }
        classifier = nil
        var why = ""
        for accelerator in wanted == .cpu ? [.cpu] : [wanted, .cpu] {
            do {
                let made = try Classifier(bundle: Bundle.main.bundleURL
                    .appendingPathComponent("bundle"), accelerator: accelerator)
                classifier = made
                return ("\(why)Running on \(accelerator.rawValue). "
                    + "Self-test passed on \(made.tested) images.", true)
            } catch {
                why += "\(accelerator.rawValue): \(error). "
            }
        }
        let reason = "This copy would give other answers than the certified model."
        return ("Refused. \(why)\(reason)", false)
    }

    /// The answer to a frame; nil where the self-test has not passed.
    func classify(_ picture: Picture) -> (answer: String, time: String)? {
        lock.lock()
        defer { lock.unlock() }
        guard let classifier else { return nil }
        let begun = Date()
        do {
            let found = try classifier.classify(picture)
            let set = found.set.isEmpty
                ? "no label is likely enough" : found.set.joined(separator: " or ")
            let spent = Int(1000 * Date().timeIntervalSince(begun))
            return (found.unsure ? "Unsure: \(set)" : found.label, "\(spent) ms with resizing")
        } catch {
            return ("\(error)", "")
        }
    }
}
