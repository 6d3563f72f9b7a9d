// The test vectors of samples/preprocess_vectors.json: small pictures with the input bytes that
// each app of this model has to make of them.
import Foundation

struct Vectors: Decodable {
    struct StoredPlane: Decodable {
        let data: Data
        let rowStride: Int
        let pixelStride: Int
    }

    struct Vector: Decodable {
        let name: String
        let format: String
        let width: Int
        let height: Int
        let orientation: Int
        let planes: [StoredPlane]
        let file: Data?
        let input: InputSide
        let expected: Data
    }

    let tolerance: Int
    let vectors: [Vector]

    /// `json`: the file. JSONDecoder reads base64 by itself.
    init(_ json: Data) throws {
        self = try snakeCase.decode(Vectors.self, from: json)
    }

    /// Checks all vectors and returns their number. Throws Refused, which names the first vector
    /// with other bytes. `decode`, where the caller has it, turns an image file into an upright
    /// picture.
    func check(decode: ((Data) throws -> Picture)? = nil) throws -> Int {
        for vector in vectors {
            try compare(vector, Preprocess.upright(try stored(vector), vector.orientation))
            if let decode, let file = vector.file { try compare(vector, try decode(file)) }
        }
        return vectors.count
    }

    private func compare(_ vector: Vector, _ picture: Picture) throws {
        let found = Preprocess.codes(try Preprocess.fit(picture, vector.input), vector.input)
        let expected = [UInt8](vector.expected)
        guard found.count == expected.count else {
            throw Refused("vector \"\(vector.name)\": \(found.count) bytes, not \(expected.count)")
        }
        let off = zip(found, expected).map { abs(Int($0) - Int($1)) }.max() ?? 0
        if off > tolerance { throw Refused("vector \"\(vector.name)\": \(off) levels off") }
    }

    /// The stored pixels as a picture, before it is turned.
    private func stored(_ vector: Vector) throws -> Picture {
        let bytes = vector.planes.map { [UInt8]($0.data) }
        func plane<T>(_ index: Int, _ use: (Plane) -> T) -> T {
            bytes[index].withUnsafeBytes { data in
                let side = vector.planes[index]
                return use(
                    Plane(data: data, rowStride: side.rowStride, pixelStride: side.pixelStride))
            }
        }
        let (width, height) = (vector.width, vector.height)
        func packed(_ places: [Int], _ alpha: Int? = nil) -> Picture {
            plane(0) {
                Preprocess.picture(
                    $0, width: width, height: height, places: places, alpha: alpha)
            }
        }
        switch vector.format {
        case "grey": return packed([0, 0, 0])
        case "rgb": return packed([0, 1, 2])
        case "rgba": return packed([0, 1, 2], 3)
        case "bgrx": return packed([2, 1, 0])
        case "yuv_420":
            return plane(0) { y in
                plane(1) { u in
                    plane(2) { v in
                        Preprocess.picture(y: y, u: u, v: v, width: width, height: height)
                    }
                }
            }
        default: throw Refused("the pixel format \(vector.format) is unknown")
        }
    }
}
