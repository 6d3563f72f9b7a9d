@file:Suppress("UNUSED_PARAMETER", "unused")

package android.media

class ExifInterface(stream: java.io.InputStream) {
    fun getAttributeInt(tag: String, defaultValue: Int): Int = TODO()

    companion object {
        const val TAG_ORIENTATION = "Orientation"
        const val ORIENTATION_FLIP_HORIZONTAL = 2
        const val ORIENTATION_ROTATE_180 = 3
        const val ORIENTATION_FLIP_VERTICAL = 4
        const val ORIENTATION_TRANSPOSE = 5
        const val ORIENTATION_ROTATE_90 = 6
        const val ORIENTATION_TRANSVERSE = 7
        const val ORIENTATION_ROTATE_270 = 8
    }
}
