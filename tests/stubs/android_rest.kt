// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package android.content.res

class AssetManager {
    fun open(name: String): java.io.InputStream = TODO()
}
