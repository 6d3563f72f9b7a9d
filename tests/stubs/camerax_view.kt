@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.camera.view

class PreviewView(context: android.content.Context) : android.view.View() {
    val surfaceProvider: androidx.camera.core.Preview.SurfaceProvider get() = TODO()
}
