// Signatures of JUnit 4, for compiling the instrumented tests. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package org.junit

annotation class Test

object Assert {
    fun assertEquals(expected: Any?, actual: Any?) {}
    fun assertTrue(condition: Boolean) {}
}

object Assume {
    fun assumeTrue(message: String, condition: Boolean) {}
}
