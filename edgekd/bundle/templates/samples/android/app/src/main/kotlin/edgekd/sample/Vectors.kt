package edgekd.sample

import java.nio.ByteBuffer
import java.util.Base64
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject

/**
 * samples/preprocess_vectors.json: small pictures with the input bytes that each app of this model
 * has to make of them.
 */
class Vectors(text: String) {
    private val body = JSONObject(text)

    /**
     * Checks all vectors and returns their number. Throws [Refused], which names the first vector
     * with other bytes. [decode], where the caller has it, turns an image file into an upright
     * picture.
     */
    fun check(decode: ((ByteArray) -> Picture)? = null): Int {
        val vectors = body.getJSONArray("vectors")
        for (index in 0 until vectors.length()) {
            val vector = vectors.getJSONObject(index)
            compare(vector, Preprocess.upright(stored(vector), vector.getInt("orientation")))
            if (decode != null && vector.has("file")) {
                compare(vector, decode(bytes(vector.getString("file"))))
            }
        }
        return vectors.length()
    }

    private fun compare(vector: JSONObject, picture: Picture) {
        val input = InputSide(vector.getJSONObject("input"))
        val found = Preprocess.toCodes(Preprocess.fit(picture, input), input)
        val expected = bytes(vector.getString("expected"))
        val name = vector.getString("name")
        if (found.size != expected.size) {
            throw Refused("vector $name: ${found.size} bytes, not ${expected.size}")
        }
        val off = found.indices.maxOf {
            abs((found[it].toInt() and 255) - (expected[it].toInt() and 255))
        }
        if (off > body.getInt("tolerance")) throw Refused("vector $name: $off levels off")
    }

    /** The stored pixels as a picture, before it is turned. */
    private fun stored(vector: JSONObject): Picture {
        val planes = planes(vector.getJSONArray("planes"))
        val (width, height) = vector.getInt("width") to vector.getInt("height")
        return when (val format = vector.getString("format")) {
            "grey" -> Preprocess.packed(planes[0], width, height, listOf(0, 0, 0))
            "rgb" -> Preprocess.packed(planes[0], width, height, listOf(0, 1, 2))
            "rgba" -> Preprocess.packed(planes[0], width, height, listOf(0, 1, 2), alpha = 3)
            "bgrx" -> Preprocess.packed(planes[0], width, height, listOf(2, 1, 0))
            "yuv_420" -> Preprocess.yuv420(planes[0], planes[1], planes[2], width, height)
            else -> throw Refused("the pixel format $format is unknown")
        }
    }

    private fun planes(rows: JSONArray): List<Plane> = List(rows.length()) {
        val row = rows.getJSONObject(it)
        Plane(
            ByteBuffer.wrap(bytes(row.getString("data"))),
            row.getInt("row_stride"), row.getInt("pixel_stride"),
        )
    }

    private fun bytes(text: String): ByteArray = Base64.getDecoder().decode(text)
}
