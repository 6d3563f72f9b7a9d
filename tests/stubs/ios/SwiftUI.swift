// Signatures of Apple's SwiftUI, as far as the sample uses them, for type-checking it on Linux.
// Nothing here works.
@_exported import AVFoundation
@_exported import Foundation

public protocol ObservableObject: AnyObject {}
@propertyWrapper public struct Published<V> {
    public init(wrappedValue: V) { self.wrappedValue = wrappedValue }
    public var wrappedValue: V
}
@propertyWrapper @MainActor public struct StateObject<V: ObservableObject> {
    public init(wrappedValue: @autoclosure @escaping () -> V) { f = wrappedValue }
    let f: () -> V
    public var wrappedValue: V { f() }
}
@propertyWrapper public struct State<V> {
    public init(wrappedValue: V) { v = wrappedValue }
    var v: V
    public var wrappedValue: V {
        get { v }
        nonmutating set {}
    }
    public var projectedValue: Binding<V> { Binding() }
}
public struct Binding<V> { init() {} }
@MainActor public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}
extension Never: View { public var body: Never { return fatalError() } }
public struct AnyStub: View {
    nonisolated init() {}
    public var body: Never { return fatalError() }
}
@resultBuilder public struct ViewBuilder {
    public static func buildBlock<each C: View>(_ c: repeat each C) -> AnyStub { AnyStub() }
}
@MainActor public struct VStack<C: View>: View {
    public init(spacing: CGFloat? = nil, @ViewBuilder content: () -> C) {}
    public var body: Never { return fatalError() }
}
public struct Picker<S: Hashable, C: View>: View {
    public init(_ t: String, selection: Binding<S>, @ViewBuilder content: () -> C) {}
    public var body: Never { return fatalError() }
}
public struct ForEach<D: RandomAccessCollection, C: View>: View where D.Element: Identifiable {
    public init(_ d: D, @ViewBuilder content: @escaping (D.Element) -> C) {}
    public var body: Never { return fatalError() }
}
public struct Text: View {
    public init(_ s: String) {}
    public var body: Never { return fatalError() }
}
public struct Font { public static let title = Font(), caption = Font(), footnote = Font() }
public struct Color: ShapeStyle { public static let red = Color(), secondary = Color() }
public protocol ShapeStyle {}
extension ShapeStyle where Self == Color { public static var secondary: Color { Color() } }
public protocol PickerStyle {}
public struct SegmentedPickerStyle: PickerStyle {}
extension PickerStyle where Self == SegmentedPickerStyle {
    public static var segmented: SegmentedPickerStyle { SegmentedPickerStyle() }
}
extension View {
    public func accessibilityLabel(_ s: String) -> AnyStub { AnyStub() }
    public func tag<V: Hashable>(_ v: V) -> AnyStub { AnyStub() }
    public func pickerStyle<S: PickerStyle>(_ s: S) -> AnyStub { AnyStub() }
    public func font(_ f: Font?) -> AnyStub { AnyStub() }
    public func foregroundStyle<S: ShapeStyle>(_ s: S) -> AnyStub { AnyStub() }
    public func padding() -> AnyStub { AnyStub() }
    public func task(_ a: @escaping @Sendable () async -> Void) -> AnyStub { AnyStub() }
    public func task<T: Equatable>(id: T, _ a: @escaping @Sendable () async -> Void) -> AnyStub {
        AnyStub()
    }
}
open class UIView {
    public init() {}
    public let layer = CALayer()
    public var bounds = CGRect.zero
    open func layoutSubviews() {}
}
public struct RepContext {}
@MainActor public protocol UIViewRepresentable: View where Body == Never {
    associatedtype UIViewType: UIView
    typealias Context = RepContext
    func makeUIView(context: Context) -> UIViewType
    func updateUIView(_ v: UIViewType, context: Context)
}
extension UIViewRepresentable { public var body: Never { return fatalError() } }
@MainActor public protocol Scene {}
public struct WindowGroup<C: View>: Scene { public init(@ViewBuilder content: () -> C) {} }
@resultBuilder public struct SceneBuilder {
    public static func buildBlock<S: Scene>(_ s: S) -> S { s }
}
@MainActor public protocol App {
    associatedtype B: Scene
    @SceneBuilder var body: B { get }
    init()
}
extension App { public static func main() {} }
