package org.junit.runner

abstract class Runner

annotation class RunWith(val value: kotlin.reflect.KClass<out Runner>)
