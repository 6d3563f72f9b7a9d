// Signatures of androidx.activity and androidx.core, for compiling the sample. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.activity

import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract

open class ComponentActivity : android.app.Activity(), androidx.lifecycle.LifecycleOwner {
    fun <I, O> registerForActivityResult(
        contract: ActivityResultContract<I, O>, callback: (O) -> Unit,
    ): ActivityResultLauncher<I> = TODO()
}
