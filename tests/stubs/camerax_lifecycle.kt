@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.camera.lifecycle

import androidx.camera.core.CameraSelector
import androidx.camera.core.UseCase
import androidx.lifecycle.LifecycleOwner
import java.util.concurrent.Executor
import java.util.concurrent.Future

interface ListenableFuture<T> : Future<T> {
    fun addListener(listener: Runnable, executor: Executor)
}

class ProcessCameraProvider {
    fun unbindAll() {}
    fun bindToLifecycle(
        owner: LifecycleOwner, selector: CameraSelector, vararg useCases: UseCase,
    ): Any = TODO()

    companion object {
        fun getInstance(
            context: android.content.Context,
        ): ListenableFuture<ProcessCameraProvider> = TODO()
    }
}
