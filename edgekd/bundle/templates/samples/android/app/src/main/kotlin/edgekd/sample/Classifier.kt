package edgekd.sample

import android.content.Context

/**
 * The model with its labels and preprocessing, on the first processor whose answers to the golden
 * images are right. The constructor throws [Refused] if there is none. Not thread-safe.
 */
class Classifier(private val context: Context, wanted: Processor) : AutoCloseable {
    private val contract = Contract(text("deployment.json"), text("labels.txt"))
    private val runner: Runner

    /** The number of golden images that the self-test ran. */
    val tested: Int

    /** Why processors that were tried first do not run, a line each. */
    val passedOver: List<String>

    /** What runs the model. */
    val processor: Processor get() = runner.processor

    init {
        Vectors(text("samples/preprocess_vectors.json")).check()
        val reasons = mutableListOf<String>()
        var found: Pair<Runner, Int>? = null
        for (processor in attempts(wanted)) {
            try {
                found = tested(processor)
                break
            } catch (error: Exception) {
                // A processor that a phone lacks throws in many ways. The next one is tried.
                reasons += "$processor: ${error.message ?: error}"
            }
        }
        passedOver = reasons
        val (first, count) = found ?: throw Refused(reasons.joinToString("; "))
        runner = first
        tested = count
    }

    /** A runner that has passed the self-test, with the number of images. */
    private fun tested(processor: Processor): Pair<Runner, Int> {
        val made = runnerOn(processor, context, contract)
        try {
            val count = SelfTest(text("golden/golden.json")).run(
                contract, processor == Processor.CPU, { ImageFile.decode(bytes(it)) }, made::run,
            )
            return made to count
        } catch (error: Exception) {
            made.close()
            throw error
        }
    }

    private fun bytes(name: String): ByteArray = context.assets.open(name).use { it.readBytes() }

    private fun text(name: String): String = bytes(name).decodeToString()

    /** Classifies an upright picture of any size. */
    fun classify(picture: Picture): Answer {
        val small = Preprocess.fit(picture, contract.input)
        return contract.told(runner.run(Preprocess.toCodes(small, contract.input)))
    }

    override fun close() = runner.close()
}
