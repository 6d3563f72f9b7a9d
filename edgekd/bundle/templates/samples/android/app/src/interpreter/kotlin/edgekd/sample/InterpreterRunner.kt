package edgekd.sample

import android.content.Context
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/** The model on the CPU, through the Interpreter of LiteRT 1. */
fun runnerOn(processor: Processor, context: Context, contract: Contract): Runner {
    if (processor != Processor.CPU) {
        throw Refused("this variant runs on the CPU alone; build the variant compiled")
    }
    return InterpreterRunner(context, contract)
}

private class InterpreterRunner(context: Context, private val contract: Contract) : Runner {
    override val processor = Processor.CPU
    private val interpreter = Interpreter(
        direct(context.assets.open(contract.model).use { it.readBytes() }),
        Interpreter.Options().setNumThreads(THREADS),
    )
    private val output = direct(ByteArray(contract.labels.size))

    init {
        val entry = interpreter.getInputTensor(0).quantizationParams()
        val leave = interpreter.getOutputTensor(0).quantizationParams()
        if (entry.scale != contract.input.scale.toFloat() ||
            entry.zeroPoint != contract.input.zeroPoint ||
            leave.scale != contract.output.scale.toFloat() ||
            leave.zeroPoint != contract.output.zeroPoint
        ) {
            interpreter.close()
            throw Refused("the model's tensors differ from those in deployment.json")
        }
    }

    override fun run(codes: ByteArray): IntArray {
        output.rewind()
        // Other outputs of the file are no answers, and are not asked for.
        interpreter.runForMultipleInputsOutputs(arrayOf(direct(codes)), mapOf(0 to output))
        return IntArray(contract.labels.size) { output.get(it).toInt() and 255 }
    }

    override fun close() = interpreter.close()

    companion object {
        private const val THREADS = 4

        private fun direct(data: ByteArray): ByteBuffer =
            ByteBuffer.allocateDirect(data.size).order(ByteOrder.nativeOrder()).put(data)
                .apply { rewind() }
    }
}
