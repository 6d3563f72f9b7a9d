@file:Suppress("UNUSED_PARAMETER", "unused")

package android.view

open class View {
    var isEnabled: Boolean = false
    fun setPadding(left: Int, top: Int, right: Int, bottom: Int) {}
    fun setOnClickListener(listener: (View) -> Unit) {}
}
