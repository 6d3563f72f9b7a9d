// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package android.app

import android.content.Context

open class Activity : Context() {
    protected open fun onCreate(savedInstanceState: android.os.Bundle?) {}
    protected open fun onDestroy() {}
    fun setContentView(view: android.view.View) {}
    fun runOnUiThread(action: Runnable) {}
}
