package edgekd.sample

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import org.json.JSONArray
import org.json.JSONObject

/** The self-test failed, so this copy would give wrong answers, or an image cannot be used. */
class Refused(message: String) : Exception(message)

/** The input tensor, and the preprocessing that leads to it: "input" of deployment.json. */
class InputSide(body: JSONObject) {
    val px: Int = body.getInt("px")

    // A file that takes a frame may be no square.
    private val frame: List<Int> =
        if (body.has("frame")) body.getJSONArray("frame").let { listOf(it.getInt(0), it.getInt(1)) }
        else listOf(px, px)
    val height: Int get() = frame[0]
    val width: Int get() = frame[1]
    val channels: Int = body.getInt("channels")
    val order: String = body.getString("order")
    val fit: String = body.getString("fit")
    val mean: List<Double> = numbers(body.getJSONArray("mean"))
    val std: List<Double> = numbers(body.getJSONArray("std"))
    val scale: Double = body.getDouble("scale")
    val zeroPoint: Int = body.getInt("zero_point")
}

/** The first output of the file, its answers. [kind] is logits, probabilities or labels. */
class OutputSide(body: JSONObject) {
    val scale: Double = body.getDouble("scale")
    val zeroPoint: Int = body.getInt("zero_point")
    val kind: String = body.getString("kind")
}

internal fun numbers(array: JSONArray): List<Double> =
    List(array.length()) { array.getDouble(it) }

/**
 * The model's answer to one image. [set] holds the labels that are likely enough. [unsure]: the set
 * does not hold exactly one label.
 */
class Answer(
    val label: String, val scores: List<Double>, val set: List<String>, val unsure: Boolean,
)

/** deployment.json and labels.txt: how to feed the model, and what its output means. */
class Contract(text: String, labelText: String) {
    private val body = JSONObject(text)
    val labels: List<String> =
        labelText.removeSuffix("\n").split("\n").map { it.removeSuffix("\r") }
    val model: String = body.getString("model")
    val input = InputSide(body.getJSONObject("input"))
    val output = OutputSide(body.getJSONObject("output"))
    private val several = output.kind == "labels"
    private val rule = body.getJSONObject("confidence")
    private val temperature = if (several) 1.0 else rule.getDouble("temperature")
    private val thresholds = numbers(rule.getJSONArray("thresholds"))
    private val slopes = if (several) numbers(rule.getJSONArray("slopes")) else emptyList()
    private val offsets = if (several) numbers(rule.getJSONArray("offsets")) else emptyList()

    /**
     * Turns the output codes, uint8 values of 0..255, into an answer. Where an image may have
     * several labels, the set of the answer holds all of them.
     */
    fun told(codes: IntArray): Answer {
        if (several) {
            val scores = codes.mapIndexed { k, code ->
                val real = slopes[k] * (code - output.zeroPoint) * output.scale + offsets[k]
                1.0 / (1.0 + exp(-real))
            }
            val set = labels.filterIndexed { k, _ -> scores[k] >= thresholds[k] }
            return Answer(set.joinToString(" + ").ifEmpty { "no label" }, scores, set, false)
        }
        val logits = codes.map { code ->
            val real = (code - output.zeroPoint) * output.scale
            (if (output.kind == "probabilities") ln(max(real, 1.0 / 512)) else real) / temperature
        }
        val top = logits.max()
        val exps = logits.map { exp(it - top) }
        val scores = exps.map { it / exps.sum() }
        val set = labels.filterIndexed { k, _ -> scores[k] >= thresholds[k] }
        return Answer(labels[codes.indexOf(codes.max())], scores, set, set.size != 1)
    }
}
