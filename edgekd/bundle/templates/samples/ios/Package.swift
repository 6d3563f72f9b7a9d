// swift-tools-version:5.9
// The preprocessing without the app, for macOS and Linux: swift run check_vectors ../..
import PackageDescription

let package = Package(
    name: "check_vectors",
    targets: [
        .executableTarget(
            name: "check_vectors", path: "Sources", sources: ["Core", "CheckVectors"])
    ]
)
