package edgekd.sample

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Image files as upright pictures. */
object ImageFile {
    /** A damaged header may claim a huge image. This limit keeps it from filling the memory. */
    private const val MAX_PIXELS = 64_000_000L

    /** Decodes a file. It is turned upright by its EXIF data; transparent pixels lie on black. */
    fun decode(file: ByteArray): Picture {
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeByteArray(file, 0, file.size, bounds)
        if (bounds.outWidth.toLong() * bounds.outHeight > MAX_PIXELS) {
            throw Refused("the image has too many pixels")
        }
        val options = BitmapFactory.Options().apply {
            inScaled = false
            inPremultiplied = false
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
        val bitmap = BitmapFactory.decodeByteArray(file, 0, file.size, options)
            ?: throw Refused("the file is not a readable image")
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        // Little endian: a pixel's bytes are B, G, R, A.
        val bytes = ByteBuffer.allocate(4 * pixels.size).order(ByteOrder.LITTLE_ENDIAN)
        bytes.asIntBuffer().put(pixels)
        val plane = Plane(bytes, 4 * bitmap.width, 4)
        val stored =
            Preprocess.packed(plane, bitmap.width, bitmap.height, listOf(2, 1, 0), alpha = 3)
        val exif = ExifInterface(ByteArrayInputStream(file))
        return Preprocess.upright(stored, exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, 1))
    }
}
