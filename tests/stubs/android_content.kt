// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package android.content

import java.io.InputStream

open class Context {
    val assets: android.content.res.AssetManager get() = TODO()
    val contentResolver: ContentResolver get() = TODO()
}

class ContentResolver {
    fun openInputStream(uri: android.net.Uri): InputStream? = TODO()
}

class Intent(action: String) {
    val data: android.net.Uri? get() = TODO()
    fun setType(type: String): Intent = TODO()

    companion object {
        const val ACTION_GET_CONTENT = "android.intent.action.GET_CONTENT"
    }
}
