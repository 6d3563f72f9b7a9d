@file:Suppress("UNUSED_PARAMETER", "unused")

package android.widget

import android.content.Context
import android.view.View

open class TextView(context: Context) : View() {
    var text: CharSequence = ""
    var textSize: Float = 0f
}

class Button(context: Context) : TextView(context)

class LinearLayout(context: Context) : View() {
    var orientation: Int = 0
    fun addView(view: View) {}
    fun addView(view: View, params: LayoutParams) {}

    class LayoutParams(width: Int, height: Int, weight: Float) {
        companion object {
            const val MATCH_PARENT = -1
        }
    }

    companion object {
        const val VERTICAL = 1
    }
}
