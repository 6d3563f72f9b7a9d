package edgekd.sample

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import java.util.concurrent.Executors

/** Tests the model on its golden images at start, then classifies an image that the user picks. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var classifier: Classifier? = null
    private lateinit var state: TextView
    private lateinit var result: TextView
    private lateinit var pick: Button

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        state = TextView(this).apply { text = "Testing the model on its golden images …" }
        result = TextView(this).apply { textSize = 20f }
        pick = Button(this).apply {
            text = "Choose an image"
            isEnabled = false
            setOnClickListener {
                startActivityForResult(Intent(Intent.ACTION_GET_CONTENT).setType("image/*"), PICK)
            }
        }
        setContentView(LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            setPadding(48, 96, 48, 48)
            val limits = TextView(this@MainActivity).apply { text = LIMITS }
            for (view in listOf(limits, state, pick, result)) addView(view)
        })
        worker.execute {
            val said = try {
                val made = Classifier(this)
                classifier = made
                "Self-test passed on ${made.tested} images."
            } catch (error: Refused) {
                "Refused: ${error.message}. " +
                    "This copy would give other answers than the certified model."
            }
            runOnUiThread {
                state.text = said
                pick.isEnabled = classifier != null
            }
        }
    }

    @Deprecated("The platform's own method, which needs no further library")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val address = data?.data ?: return
        worker.execute {
            val said = try {
                val file = contentResolver.openInputStream(address)?.use { it.readBytes() }
                    ?: throw Refused("it cannot be opened")
                val answer = classifier?.classify(file) ?: return@execute
                val candidates =
                    answer.set.joinToString(" or ").ifEmpty { "no label is likely enough" }
                if (answer.unsure) "Unsure: $candidates" else answer.label
            } catch (error: Refused) {
                "This image cannot be used: ${error.message}"
            }
            runOnUiThread { result.text = said }
        }
    }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    companion object {
        private const val PICK = 1
        private const val LIMITS = "@@LIMITS@@"
    }
}
