package android.os

class Bundle

object SystemClock {
    fun elapsedRealtime(): Long = TODO()
}
