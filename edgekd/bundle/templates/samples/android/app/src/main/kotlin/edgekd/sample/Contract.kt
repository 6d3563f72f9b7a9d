package edgekd.sample

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import org.json.JSONArray
import org.json.JSONObject

/** This copy would give other answers than the certified model, or an image cannot be used. */
class Refused(message: String) : Exception(message)

class InputSide(
    val px: Int, val channels: Int, val order: String, val fit: String, val mean: List<Double>, val std: List<Double>,
    val scale: Double, val zeroPoint: Int,
)

class OutputSide(val scale: Double, val zeroPoint: Int, val kind: String)

/** What the model says of one image. [unsure]: the set is not exactly one label. */
class Answer(val label: String, val scores: List<Double>, val set: List<String>, val unsure: Boolean)

/** deployment.json and labels.txt: how to feed the model and what its output means. */
class Contract(text: String, labelText: String) {
    private val body = JSONObject(text)
    val labels: List<String> = labelText.removeSuffix("\n").split("\n").map { it.removeSuffix("\r") }
    val model: String = body.getString("model")
    val input: InputSide = body.getJSONObject("input").let {
        InputSide(
            it.getInt("px"), it.getInt("channels"), it.getString("order"), it.getString("fit"),
            numbers(it.getJSONArray("mean")), numbers(it.getJSONArray("std")), it.getDouble("scale"), it.getInt("zero_point"),
        )
    }
    val output: OutputSide = body.getJSONObject("output").let {
        OutputSide(it.getDouble("scale"), it.getInt("zero_point"), it.getString("kind"))
    }
    private val several = output.kind == "labels"
    private val temperature = if (several) 1.0 else body.getJSONObject("confidence").getDouble("temperature")
    private val thresholds = numbers(body.getJSONObject("confidence").getJSONArray("thresholds"))
    private val slopes = if (several) numbers(body.getJSONObject("confidence").getJSONArray("slopes")) else emptyList()
    private val offsets = if (several) numbers(body.getJSONObject("confidence").getJSONArray("offsets")) else emptyList()

    private fun numbers(array: JSONArray) = List(array.length()) { array.getDouble(it) }

    /** [codes]: the uint8 output, 0..255 each. Where an image may have several labels, the set is what it has. */
    fun told(codes: IntArray): Answer {
        if (several) {
            val scores = codes.mapIndexed { k, code ->
                1.0 / (1.0 + exp(-(slopes[k] * (code - output.zeroPoint) * output.scale + offsets[k])))
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

/** golden/golden.json: images with the answers that any correct copy gives. */
class SelfTest(text: String) {
    private val body = JSONObject(text)

    /** Returns how many images agree; throws [Refused] naming the first that does not. */
    fun run(contract: Contract, decode: (String) -> Picture, infer: (ByteArray) -> IntArray): Int {
        val images = body.getJSONArray("images")
        val rows = List(images.length()) { images.getJSONObject(it) } + body.getJSONObject("pattern")
        val tolerance = body.getInt("tolerance_lsb")
        for (row in rows) {
            val file = row.getString("file")
            val small = Preprocess.fit(decode(file), contract.input.px, contract.input.fit)
            if (row.has("fitted") && !decode(row.getString("fitted")).data.contentEquals(small.data)) {
                throw Refused("$file is brought to size otherwise than in training")
            }
            val codes = infer(Preprocess.toCodes(small, contract.input))
            val stored = row.getJSONArray("codes_uint8").let { array -> IntArray(array.length()) { array.getInt(it) } }
            if (codes.size != contract.labels.size || codes.size != stored.size) {
                throw Refused("${contract.labels.size} labels for ${codes.size} outputs")
            }
            val off = codes.indices.maxOf { abs(codes[it] - stored[it]) }
            if (off > tolerance) throw Refused("$file is $off LSB from the stored answer")
            val said = contract.told(stored)
            val set = row.getJSONArray("set").let { array -> List(array.length()) { array.getString(it) } }
            if (said.label != row.getString("answer") || said.set != set || said.unsure != row.getBoolean("unsure")) {
                throw Refused("$file says ${said.label} ${said.set}, stored is ${row.getString("answer")} $set")
            }
            if (row.has("label") && row.getString("label") !in contract.labels) {
                throw Refused("$file is labelled ${row.getString("label")}, which is not in the label list")
            }
        }
        return rows.size
    }
}
