package edgekd.sample

import java.nio.ByteBuffer
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round // rounds half to even, as NumPy's rint and Python's round do

/** An image: its R, G, B bytes, row by row. */
class Picture(val width: Int, val height: Int, val data: ByteArray) {
    init {
        require(data.size == width * height * 3) {
            "${data.size} bytes for $width x $height pixels"
        }
    }
}

/**
 * Bytes of a picture. The sample of column x and row y starts at y * [rowStride] +
 * x * [pixelStride].
 */
class Plane(private val data: ByteBuffer, val rowStride: Int, val pixelStride: Int) {
    fun at(x: Int, y: Int, sample: Int = 0): Int =
        data.get(y * rowStride + x * pixelStride + sample).toInt() and 255
}

/** The preprocessing of training. Resizing equals Pillow's bilinear filter bit for bit. */
object Preprocess {
    /** As in Pillow's Resample.c: 32 bits, less 8 bits for the pixel and 2 bits of headroom. */
    private const val PRECISION_BITS = 22

    private class Weights(val first: Int, val values: LongArray)

    private fun coefficients(size: Int, target: Int): List<Weights> {
        val scale = size.toDouble() / target
        val width = max(scale, 1.0)
        return List(target) { i ->
            val centre = (i + 0.5) * scale
            val first = max((centre - width + 0.5).toInt(), 0)
            val end = min((centre + width + 0.5).toInt(), size)
            val raw = DoubleArray(end - first) { k ->
                max(1.0 - abs((first + k - centre + 0.5) * (1.0 / width)), 0.0)
            }
            val sum = raw.sum()
            Weights(first, LongArray(raw.size) { k ->
                ((if (sum != 0.0) raw[k] / sum else raw[k]) * (1 shl PRECISION_BITS) + 0.5).toLong()
            })
        }
    }

    private fun toByte(sum: Long): Byte = (sum shr PRECISION_BITS).coerceIn(0, 255).toByte()

    /** Resizes along the width and then along the height. Each step rounds to 8 bits. */
    fun resize(image: Picture, width: Int, height: Int): Picture {
        val half = 1L shl (PRECISION_BITS - 1)
        var data = image.data
        if (width != image.width) {
            val rows = coefficients(image.width, width)
            val next = ByteArray(width * image.height * 3)
            for (y in 0 until image.height) for (x in 0 until width) for (c in 0 until 3) {
                val row = rows[x]
                var sum = half
                for (k in row.values.indices) {
                    val pixel = data[(y * image.width + row.first + k) * 3 + c].toInt() and 255
                    sum += pixel * row.values[k]
                }
                next[(y * width + x) * 3 + c] = toByte(sum)
            }
            data = next
        }
        if (height != image.height) {
            val rows = coefficients(image.height, height)
            val next = ByteArray(width * height * 3)
            for (y in 0 until height) for (x in 0 until width * 3) {
                val row = rows[y]
                var sum = half
                for (k in row.values.indices) {
                    sum += (data[(row.first + k) * width * 3 + x].toInt() and 255) * row.values[k]
                }
                next[y * width * 3 + x] = toByte(sum)
            }
            data = next
        }
        return Picture(width, height, data)
    }

    private fun window(image: Picture, left: Int, top: Int, width: Int, height: Int): Picture {
        val data = ByteArray(width * height * 3)
        for (y in 0 until height) {
            val start = ((top + y) * image.width + left) * 3
            System.arraycopy(image.data, start, data, y * width * 3, width * 3)
        }
        return Picture(width, height, data)
    }

    private fun even(value: Double): Int = round(value).toInt()

    /** An image in the middle of a black one. */
    private fun centred(image: Picture, width: Int, height: Int): Picture {
        val data = ByteArray(width * height * 3)
        val top = (height - image.height) / 2
        val left = (width - image.width) / 2
        val row = image.width * 3
        for (y in 0 until image.height) {
            System.arraycopy(image.data, y * row, data, ((top + y) * width + left) * 3, row)
        }
        return Picture(width, height, data)
    }

    /** Brings an image to px x px in training's mode: squash, crop or pad. */
    private fun squared(image: Picture, px: Int, mode: String): Picture = when (mode) {
        "squash" -> resize(image, px, px)
        "crop" -> {
            val side = min(image.width, image.height)
            val left = (image.width - side) / 2
            val top = (image.height - side) / 2
            resize(window(image, left, top, side, side), px, px)
        }
        "pad" -> {
            val longest = max(image.width, image.height).toDouble()
            val inner = resize(
                image, max(1, even(image.width * px / longest)),
                max(1, even(image.height * px / longest)),
            )
            centred(inner, px, px)
        }
        else -> throw Refused("input.fit is $mode, expected squash, crop or pad")
    }

    /**
     * Brings an image to the input's size. One of that size goes in as it is; any other is made a
     * square, which lies in the middle of the frame.
     */
    fun fit(image: Picture, input: InputSide): Picture {
        if (image.width == input.width && image.height == input.height) return image
        return centred(squared(image, input.px, input.fit), input.width, input.height)
    }

    /** Turns resized pixels into the codes of the uint8 input tensor. */
    fun toCodes(image: Picture, source: InputSide): ByteArray {
        val codes = ByteArray(image.width * image.height * source.channels)
        for (i in 0 until image.width * image.height) for (c in 0 until source.channels) {
            val pixel = image.data[i * 3 + if (source.order == "BGR") 2 - c else c].toInt() and 255
            val normalized = (pixel / 255.0 - source.mean[c]) / source.std[c]
            val code = round(normalized / source.scale) + source.zeroPoint
            codes[i * source.channels + c] = floor(code.coerceIn(0.0, 255.0)).toInt().toByte()
        }
        return codes
    }

    /**
     * Turns an image upright, by the numbers of EXIF: 3, 6 and 8 turn it clockwise by 180, 90 and
     * 270 degrees, and the others mirror it too.
     */
    fun upright(image: Picture, orientation: Int): Picture {
        if (orientation <= 1) return image
        val turned = orientation >= 5
        val width = if (turned) image.height else image.width
        val height = if (turned) image.width else image.height
        val mirrored = orientation in listOf(2, 3, 6, 7)
        val flipped = orientation in listOf(3, 4, 7, 8)
        val data = ByteArray(image.data.size)
        for (y in 0 until height) for (x in 0 until width) {
            val column = if (mirrored) width - 1 - x else x
            val row = if (flipped) height - 1 - y else y
            val from = if (turned) column * image.width + row else row * image.width + column
            for (c in 0 until 3) data[3 * (y * width + x) + c] = image.data[3 * from + c]
        }
        return Picture(width, height, data)
    }

    /**
     * Packed pixels as a picture. [places]: where red, green and blue lie in a pixel. [alpha]:
     * where alpha lies, if there is one; it is not premultiplied, and transparent pixels lie on
     * black.
     */
    fun packed(
        plane: Plane, width: Int, height: Int, places: List<Int>, alpha: Int? = null,
    ): Picture {
        val data = ByteArray(3 * width * height)
        for (y in 0 until height) for (x in 0 until width) {
            val opaque = if (alpha == null) 255 else plane.at(x, y, alpha)
            for (c in 0 until 3) {
                val value = (plane.at(x, y, places[c]) * opaque + 127) / 255
                data[3 * (y * width + x) + c] = value.toByte()
            }
        }
        return Picture(width, height, data)
    }

    /**
     * A YUV_420_888 frame as a picture: full-range BT.601 (JFIF), times 2 to the power of 16. U and
     * V have one sample for each 2 x 2 pixels.
     */
    fun yuv420(y: Plane, u: Plane, v: Plane, width: Int, height: Int): Picture {
        val data = ByteArray(3 * width * height)
        for (row in 0 until height) for (x in 0 until width) {
            val luma = (y.at(x, row) shl 16) + (1 shl 15)
            val blue = u.at(x / 2, row / 2) - 128
            val red = v.at(x / 2, row / 2) - 128
            val at = 3 * (row * width + x)
            data[at] = level(luma + 91881 * red)
            data[at + 1] = level(luma - 22554 * blue - 46802 * red)
            data[at + 2] = level(luma + 116130 * blue)
        }
        return Picture(width, height, data)
    }

    private fun level(value: Int): Byte = (value shr 16).coerceIn(0, 255).toByte()
}
