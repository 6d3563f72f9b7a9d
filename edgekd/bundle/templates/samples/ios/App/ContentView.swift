// The camera, the answer, and which accelerator gave it.
import AVFoundation
import SwiftUI

struct ContentView: View {
    @StateObject private var model = LiveModel()
    @State private var wanted = Accelerator.cpu

    var body: some View {
        VStack(spacing: 12) {
            Preview(layer: model.camera.preview)
                .accessibilityLabel("Camera")
            Picker("Runs on", selection: $wanted) {
                ForEach(Accelerator.allCases) { Text($0.rawValue).tag($0) }
            }
            .pickerStyle(.segmented)
            Text(model.passed ? model.answer : " ")
                .font(.title)
            Text(model.time)
                .font(.caption)
            Text(model.state)
                .font(.footnote)
                .foregroundStyle(model.passed ? Color.secondary : Color.red)
            Text("@@LIMITS@@")
                .font(.footnote)
                .foregroundStyle(.secondary)
        }
        .padding()
        .task { await model.startCamera() }
        .task(id: wanted) { await model.use(wanted) }
    }
}

/// The camera's own preview layer.
struct Preview: UIViewRepresentable {
    let layer: AVCaptureVideoPreviewLayer

    final class Frame: UIView {
        var shown: CALayer?

        override func layoutSubviews() {
            super.layoutSubviews()
            shown?.frame = bounds
        }
    }

    func makeUIView(context: Context) -> Frame {
        let view = Frame()
        view.layer.addSublayer(layer)
        view.shown = layer
        return view
    }

    func updateUIView(_ view: Frame, context: Context) {}
}
