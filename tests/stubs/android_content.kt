// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
package android.content

open class Context {
    val assets: android.content.res.AssetManager get() = TODO()
}
