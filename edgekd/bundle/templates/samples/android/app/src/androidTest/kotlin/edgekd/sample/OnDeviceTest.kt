package edgekd.sample

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith

/** On a phone or an emulator: ./gradlew connectedCompiledDebugAndroidTest */
@RunWith(AndroidJUnit4::class)
class OnDeviceTest {
    private val context = InstrumentationRegistry.getInstrumentation().targetContext

    private fun text(name: String) =
        context.assets.open(name).use { it.readBytes() }.decodeToString()

    /** Pixels and image files, through the phone's own decoder. */
    @Test
    fun everyVectorPasses() {
        assertTrue(Vectors(text("samples/preprocess_vectors.json")).check(ImageFile::decode) > 0)
    }

    @Test
    fun theCpuGivesTheGoldenAnswers() {
        Classifier(context, Processor.CPU).use { assertEquals(Processor.CPU, it.processor) }
    }

    @Test
    fun theGpuGivesTheGoldenAnswers() = passes(Processor.GPU)

    @Test
    fun theNpuGivesTheGoldenAnswers() = passes(Processor.NPU)

    /** Skipped, with the reason, where the phone has no such processor or it does not pass. */
    private fun passes(processor: Processor) {
        Classifier(context, processor).use {
            assumeTrue(it.passedOver.joinToString("; "), it.processor == processor)
        }
    }
}
