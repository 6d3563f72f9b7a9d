package edgekd.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/**
 * The model with its labels and preprocessing. The constructor runs the golden images and throws
 * [Refused] if an answer differs from the stored one.
 */
class Classifier(private val context: Context) : AutoCloseable {
    private val contract = Contract(text("deployment.json"), text("labels.txt"))
    private val interpreter =
        Interpreter(direct(bytes(contract.model)), Interpreter.Options().setNumThreads(THREADS))

    /** The number of images that the self-test ran. */
    val tested: Int

    init {
        try {
            checkTensors()
            tested = SelfTest(text("golden/golden.json"))
                .run(contract, { decode(bytes(it)) }, ::infer)
        } catch (error: Exception) {
            interpreter.close()
            throw if (error is Refused) error else Refused("the bundle is incomplete: $error")
        }
    }

    private fun bytes(name: String): ByteArray = context.assets.open(name).use { it.readBytes() }

    private fun text(name: String): String = bytes(name).decodeToString()

    private fun direct(data: ByteArray): ByteBuffer =
        ByteBuffer.allocateDirect(data.size).order(ByteOrder.nativeOrder()).put(data)
            .apply { rewind() }

    private fun checkTensors() {
        val entry = interpreter.getInputTensor(0).quantizationParams()
        val leave = interpreter.getOutputTensor(0).quantizationParams()
        if (entry.scale != contract.input.scale.toFloat() ||
            entry.zeroPoint != contract.input.zeroPoint ||
            leave.scale != contract.output.scale.toFloat() ||
            leave.zeroPoint != contract.output.zeroPoint
        ) {
            throw Refused("the model's tensors differ from those in deployment.json")
        }
    }

    private fun infer(codes: ByteArray): IntArray {
        val output = direct(ByteArray(contract.labels.size))
        interpreter.run(direct(codes), output)
        return IntArray(contract.labels.size) { output.get(it).toInt() and 255 }
    }

    /** Classifies the bytes of an image file. */
    fun classify(file: ByteArray): Answer {
        val small = Preprocess.fit(decode(file), contract.input.px, contract.input.fit)
        return contract.told(infer(Preprocess.toCodes(small, contract.input)))
    }

    private fun decode(file: ByteArray): Picture {
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeByteArray(file, 0, file.size, bounds)
        if (bounds.outWidth.toLong() * bounds.outHeight > MAX_PIXELS) {
            throw Refused("the image has too many pixels")
        }
        val options = BitmapFactory.Options().apply {
            inScaled = false
            inPremultiplied = false
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
        val raw = BitmapFactory.decodeByteArray(file, 0, file.size, options)
            ?: throw Refused("the file is not a readable image")
        val bitmap = upright(raw, file)
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val data = ByteArray(pixels.size * 3)
        for (i in pixels.indices) {
            val alpha = pixels[i] ushr 24 // transparent pixels lie on black, as in training
            for (c in 0 until 3) {
                val value = (pixels[i] shr (16 - 8 * c)) and 255
                data[i * 3 + c] = ((value * alpha + 127) / 255).toByte()
            }
        }
        return Picture(bitmap.width, bitmap.height, data)
    }

    private fun upright(bitmap: Bitmap, file: ByteArray): Bitmap {
        val turn = Matrix()
        val exif = ExifInterface(ByteArrayInputStream(file))
        when (exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, 1)) {
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> turn.postScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_180 -> turn.postRotate(180f)
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> turn.postScale(1f, -1f)
            ExifInterface.ORIENTATION_TRANSPOSE -> {
                turn.postRotate(90f)
                turn.postScale(-1f, 1f)
            }
            ExifInterface.ORIENTATION_ROTATE_90 -> turn.postRotate(90f)
            ExifInterface.ORIENTATION_TRANSVERSE -> {
                turn.postRotate(270f)
                turn.postScale(-1f, 1f)
            }
            ExifInterface.ORIENTATION_ROTATE_270 -> turn.postRotate(270f)
            else -> return bitmap
        }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
    }

    override fun close() = interpreter.close()

    companion object {
        private const val THREADS = 4

        /** A damaged header may claim a huge image. This limit keeps it from filling the memory. */
        private const val MAX_PIXELS = 64_000_000L
    }
}
