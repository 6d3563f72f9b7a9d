package edgekd.sample

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

    /** Brings an image to [px] x [px] in one of training's modes: squash, crop or pad. */
    fun fit(image: Picture, px: Int, mode: String): Picture = when (mode) {
        "squash" -> resize(image, px, px)
        "crop" -> {
            val side = min(image.width, image.height)
            val left = (image.width - side) / 2
            val top = (image.height - side) / 2
            resize(window(image, left, top, side, side), px, px)
        }
        "pad" -> {
            val longest = max(image.width, image.height)
            val inner = resize(
                image,
                max(1, round(image.width.toDouble() * px / longest).toInt()),
                max(1, round(image.height.toDouble() * px / longest).toInt()),
            )
            val data = ByteArray(px * px * 3)
            val top = (px - inner.height) / 2
            val left = (px - inner.width) / 2
            for (y in 0 until inner.height) {
                val start = ((top + y) * px + left) * 3
                System.arraycopy(inner.data, y * inner.width * 3, data, start, inner.width * 3)
            }
            Picture(px, px, data)
        }
        else -> throw Refused("deployment.json: input.fit is $mode, expected squash, crop or pad")
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
}
