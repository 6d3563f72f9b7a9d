package edgekd.sample

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment

/** The model on a processor, through LiteRT's CompiledModel. */
fun runnerOn(processor: Processor, context: Context, contract: Contract): Runner =
    CompiledRunner(processor, context, contract)

private class CompiledRunner(
    override val processor: Processor, context: Context, contract: Contract,
) : Runner {
    private val environment = when (processor) {
        Processor.NPU -> Environment.create(context, BuiltinNpuAcceleratorProvider(context))
        else -> Environment.create(context)
    }

    // One accelerator alone. With several, LiteRT moves to the CPU without saying so.
    private val model = CompiledModel.create(
        context.assets, contract.model, CompiledModel.Options(accelerator()), environment,
    )
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    private fun accelerator() = when (processor) {
        Processor.CPU -> Accelerator.CPU
        Processor.GPU -> Accelerator.GPU
        Processor.NPU -> Accelerator.NPU
    }

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
