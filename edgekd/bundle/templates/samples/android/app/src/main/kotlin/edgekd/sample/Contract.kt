package edgekd.sample

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import org.json.JSONArray
import org.json.JSONObject

/** The self-test failed, so this copy would give wrong answers, or an image cannot be used. */
class Refused(message: String) : Exception(message)

/** The input tensor, and the preprocessing that leads to it. */
class InputSide(
    val px: Int, val channels: Int, val order: String, val fit: String,
    val mean: List<Double>, val std: List<Double>, val scale: Double, val zeroPoint: Int,
)

/** The output tensor. [kind] is logits, probabilities or labels. */
class OutputSide(val scale: Double, val zeroPoint: Int, val kind: String)

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
    val input: InputSide = body.getJSONObject("input").let {
        InputSide(
            it.getInt("px"), it.getInt("channels"), it.getString("order"), it.getString("fit"),
            numbers(it.getJSONArray("mean")), numbers(it.getJSONArray("std")),
            it.getDouble("scale"), it.getInt("zero_point"),
        )
    }
    val output: OutputSide = body.getJSONObject("output").let {
        OutputSide(it.getDouble("scale"), it.getInt("zero_point"), it.getString("kind"))
    }
    private val several = output.kind == "labels"
    private val rule = body.getJSONObject("confidence")
    private val temperature = if (several) 1.0 else rule.getDouble("temperature")
    private val thresholds = numbers(rule.getJSONArray("thresholds"))
    private val slopes = if (several) numbers(rule.getJSONArray("slopes")) else emptyList()
    private val offsets = if (several) numbers(rule.getJSONArray("offsets")) else emptyList()

    private fun numbers(array: JSONArray) = List(array.length()) { array.getDouble(it) }

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

/** golden/golden.json: images with the answers that every correct copy gives. */
class SelfTest(text: String) {
    private val body = JSONObject(text)

    /** Returns the number of images. Throws [Refused], which names the first image that differs. */
    fun run(contract: Contract, decode: (String) -> Picture, infer: (ByteArray) -> IntArray): Int {
        val images = body.getJSONArray("images")
        val rows =
            List(images.length()) { images.getJSONObject(it) } + body.getJSONObject("pattern")
        val tolerance = body.getInt("tolerance_lsb")
        for (row in rows) {
            val file = row.getString("file")
            val small = Preprocess.fit(decode(file), contract.input.px, contract.input.fit)
            if (row.has("fitted") &&
                !decode(row.getString("fitted")).data.contentEquals(small.data)
            ) {
                throw Refused("$file: resizing gives other pixels than in training")
            }
            val codes = infer(Preprocess.toCodes(small, contract.input))
            val stored = row.getJSONArray("codes_uint8")
                .let { array -> IntArray(array.length()) { array.getInt(it) } }
            if (codes.size != contract.labels.size || codes.size != stored.size) {
                throw Refused(
                    "the label list has ${contract.labels.size} labels, " +
                        "the model has ${codes.size} outputs",
                )
            }
            val off = codes.indices.maxOf { abs(codes[it] - stored[it]) }
            if (off > tolerance) {
                throw Refused("$file: the output differs by $off LSB from the stored output")
            }
            val said = contract.told(stored)
            val answer = row.getString("answer")
            val set = row.getJSONArray("set")
                .let { array -> List(array.length()) { array.getString(it) } }
            if (said.label != answer || said.set != set ||
                said.unsure != row.getBoolean("unsure")
            ) {
                throw Refused(
                    "$file: the answer is ${said.label} ${said.set}, " +
                        "the stored answer is $answer $set",
                )
            }
            if (row.has("label") && row.getString("label") !in contract.labels) {
                throw Refused(
                    "$file has the label ${row.getString("label")}, which is not in the label list",
                )
            }
        }
        return rows.size
    }
}
