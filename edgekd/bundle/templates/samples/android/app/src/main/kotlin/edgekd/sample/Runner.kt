package edgekd.sample

/** What can run the model. */
enum class Processor { CPU, GPU, NPU }

/** The model on one processor. */
interface Runner : AutoCloseable {
    val processor: Processor

    /** The output's codes (0 to 255) of the input's codes. */
    fun run(codes: ByteArray): IntArray
}

/** What to try for a wanted processor, in this order. The CPU gives the certified bytes. */
fun attempts(wanted: Processor): List<Processor> = when (wanted) {
    Processor.NPU -> listOf(Processor.NPU, Processor.GPU, Processor.CPU)
    Processor.GPU -> listOf(Processor.GPU, Processor.CPU)
    Processor.CPU -> listOf(Processor.CPU)
}
