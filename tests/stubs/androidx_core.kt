@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.core.content

object ContextCompat {
    fun getMainExecutor(context: android.content.Context): java.util.concurrent.Executor = TODO()
}
