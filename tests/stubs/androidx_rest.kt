@file:Suppress("UNUSED_PARAMETER", "unused")

package androidx.lifecycle

interface LifecycleOwner
