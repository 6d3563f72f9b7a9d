// Signatures of LiteRT 1's Interpreter (org.tensorflow.lite), for compiling the sample without its
// package. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package org.tensorflow.lite

class Tensor {
    class QuantizationParams(val scale: Float, val zeroPoint: Int)

    fun quantizationParams(): QuantizationParams = TODO()
}

class Interpreter(model: java.nio.ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        fun setNumThreads(threads: Int): Options = TODO()
    }

    fun getInputTensor(index: Int): Tensor = TODO()
    fun getOutputTensor(index: Int): Tensor = TODO()
    fun runForMultipleInputsOutputs(inputs: Array<out Any>, outputs: Map<Int, Any>) {}
    override fun close() {}
}
