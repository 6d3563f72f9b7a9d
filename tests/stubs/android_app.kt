// Signatures of Android's classes, for compiling the sample without an SDK. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package android.app

import android.content.Context
import android.content.Intent

open class Activity : Context() {
    protected open fun onCreate(savedInstanceState: android.os.Bundle?) {}
    protected open fun onDestroy() {}
    protected open fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {}
    fun startActivityForResult(intent: Intent, requestCode: Int) {}
    fun setContentView(view: android.view.View) {}
    fun runOnUiThread(action: Runnable) {}
}
