package edgekd.sample

import android.Manifest
import android.os.Bundle
import android.os.SystemClock
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

/**
 * Tests the model on its golden images, then classifies the camera's frames. One thread does both,
 * so that no frame meets a model that has not passed.
 */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var classifier: Classifier? = null
    private lateinit var camera: PreviewView
    private lateinit var answer: TextView
    private lateinit var state: TextView

    private val permission =
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) startCamera() else answer.text = "The camera is not allowed."
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        camera = PreviewView(this)
        answer = TextView(this).apply { textSize = 24f }
        state = TextView(this)
        val buttons = LinearLayout(this)
        for (processor in Processor.entries) {
            buttons.addView(
                Button(this).apply {
                    text = processor.name
                    setOnClickListener { use(processor) }
                },
            )
        }
        val screen = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            setPadding(32, 96, 32, 32)
            addView(
                camera,
                LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f),
            )
            val limits = TextView(this@MainActivity).apply { text = LIMITS }
            for (view in listOf(answer, state, buttons, limits)) addView(view)
        }
        setContentView(screen)
        use(Processor.CPU)
        permission.launch(Manifest.permission.CAMERA)
    }

    /** Tests the model on a processor, or on the next one where that does not pass. */
    private fun use(wanted: Processor) {
        state.text = "Testing the model on its golden images …"
        worker.execute {
            classifier?.close()
            classifier = null
            val said = try {
                val made = Classifier(this, wanted)
                classifier = made
                val first = "Running on the ${made.processor}. " +
                    "Self-test passed on ${made.tested} images."
                (made.passedOver + first).joinToString("\n")
            } catch (error: Exception) {
                "Refused: ${error.message}. " +
                    "This copy would give other answers than the certified model."
            }
            runOnUiThread {
                state.text = said
                answer.text = ""
            }
        }
    }

    private fun startCamera() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener(
            {
                val preview = Preview.Builder().build()
                preview.setSurfaceProvider(camera.surfaceProvider)
                val analysis = ImageAnalysis.Builder()
                    .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                    .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_YUV_420_888)
                    .build()
                analysis.setAnalyzer(worker) { frame -> frame.use { look(it) } }
                provider.get().unbindAll()
                provider.get().bindToLifecycle(
                    this, CameraSelector.DEFAULT_BACK_CAMERA, preview, analysis,
                )
            },
            ContextCompat.getMainExecutor(this),
        )
    }

    private fun look(frame: ImageProxy) {
        val ready = classifier ?: return
        val begun = SystemClock.elapsedRealtime()
        val said = try {
            val found = ready.classify(picture(frame))
            val set = found.set.joinToString(" or ").ifEmpty { "no label is likely enough" }
            val spent = SystemClock.elapsedRealtime() - begun
            (if (found.unsure) "Unsure: $set" else found.label) + "\n$spent ms with resizing"
        } catch (error: Exception) {
            "This frame cannot be used: ${error.message}"
        }
        runOnUiThread { answer.text = said }
    }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    companion object {
        private const val LIMITS = "@@LIMITS@@"
    }
}
