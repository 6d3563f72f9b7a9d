package edgekd.sample

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment

/** The model on a processor, through LiteRT's CompiledModel. */
fun runnerOn(processor: Processor, context: Context, contract: Contract): Runner {
    val environment = when (processor) {
        Processor.NPU -> Environment.create(context, BuiltinNpuAcceleratorProvider(context))
        else -> Environment.create(context)
    }
    try {
        // One accelerator alone. With several, LiteRT moves to the CPU without saying so.
        val options = CompiledModel.Options(accelerator(processor))
        val model = CompiledModel.create(context.assets, contract.model, options, environment)
        return CompiledRunner(processor, environment, model)
    } catch (error: Exception) {
        environment.close()
        throw error
    }
}

private fun accelerator(processor: Processor) = when (processor) {
    Processor.CPU -> Accelerator.CPU
    Processor.GPU -> Accelerator.GPU
    Processor.NPU -> Accelerator.NPU
}

private class CompiledRunner(
    override val processor: Processor, private val environment: Environment,
    private val model: CompiledModel,
) : Runner {
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** The buffers take bytes; the tensors' type is uint8. */
    override fun run(codes: ByteArray): IntArray {
        inputs[0].writeInt8(codes)
        model.run(inputs, outputs)
        val found = outputs[0].readInt8() // others of the file are no answers
        return IntArray(found.size) { found[it].toInt() and 255 }
    }

    override fun close() {
        for (buffer in inputs + outputs) buffer.close()
        model.close()
        environment.close()
    }
}
