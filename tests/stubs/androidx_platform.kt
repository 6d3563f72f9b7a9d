package androidx.test.platform.app

class Instrumentation {
    val targetContext: android.content.Context get() = TODO()
}

object InstrumentationRegistry {
    fun getInstrumentation(): Instrumentation = TODO()
}
