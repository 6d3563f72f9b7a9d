// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package android.graphics

class Bitmap {
    val width: Int get() = TODO()
    val height: Int get() = TODO()
    fun getPixels(
        pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int,
    ) {}

    enum class Config { ARGB_8888 }
}

object BitmapFactory {
    class Options {
        var inJustDecodeBounds = false
        var inScaled = true
        var inPremultiplied = true
        var inPreferredConfig: Bitmap.Config? = null
        var outWidth = 0
        var outHeight = 0
    }

    fun decodeByteArray(data: ByteArray, offset: Int, length: Int, opts: Options?): Bitmap? = TODO()
}
