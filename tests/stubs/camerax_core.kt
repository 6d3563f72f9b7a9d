// Signatures of CameraX, for compiling the sample without its packages. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.camera.core

import java.nio.ByteBuffer
import java.util.concurrent.Executor

open class UseCase

interface ImageInfo {
    val rotationDegrees: Int
}

interface ImageProxy : AutoCloseable {
    interface PlaneProxy {
        val buffer: ByteBuffer
        val rowStride: Int
        val pixelStride: Int
    }

    val planes: Array<PlaneProxy>
    val width: Int
    val height: Int
    val imageInfo: ImageInfo
}

class Preview : UseCase() {
    interface SurfaceProvider

    class Builder {
        fun build(): Preview = TODO()
    }

    fun setSurfaceProvider(provider: SurfaceProvider?) {}
}

class ImageAnalysis : UseCase() {
    fun interface Analyzer {
        fun analyze(image: ImageProxy)
    }

    class Builder {
        fun setBackpressureStrategy(strategy: Int): Builder = TODO()
        fun setOutputImageFormat(format: Int): Builder = TODO()
        fun build(): ImageAnalysis = TODO()
    }

    fun setAnalyzer(executor: Executor, analyzer: Analyzer) {}

    companion object {
        const val STRATEGY_KEEP_ONLY_LATEST = 0
        const val OUTPUT_IMAGE_FORMAT_YUV_420_888 = 1
    }
}

class CameraSelector {
    companion object {
        val DEFAULT_BACK_CAMERA = CameraSelector()
    }
}
