package edgekd.sample

import kotlin.math.abs
import kotlin.math.max
import org.json.JSONObject

/** golden/golden.json: images with the answers that every correct copy gives. */
class SelfTest(text: String) {
    private val body = JSONObject(text)

    /**
     * Returns the number of images. Throws [Refused], which names the first image that differs.
     *
     * [exact]: on a CPU, whose codes may be off by tolerance_lsb. A GPU or an NPU computes in
     * floating point or rounds in other places: its codes may be off by accelerator_tolerance, a
     * share of the spread of an image's stored codes, where that is more.
     */
    fun run(
        contract: Contract, exact: Boolean, decode: (String) -> Picture,
        infer: (ByteArray) -> IntArray,
    ): Int {
        val images = body.getJSONArray("images")
        val rows =
            List(images.length()) { images.getJSONObject(it) } + body.getJSONObject("pattern")
        for (row in rows) {
            val file = row.getString("file")
            val small = Preprocess.fit(decode(file), contract.input)
            if (row.has("fitted") &&
                !decode(row.getString("fitted")).data.contentEquals(small.data)
            ) {
                throw Refused("$file: resizing gives other pixels than in training")
            }
            val codes = infer(Preprocess.toCodes(small, contract.input))
            compare(row, contract, codes, exact)
        }
        return rows.size
    }

    private fun compare(row: JSONObject, contract: Contract, codes: IntArray, exact: Boolean) {
        val file = row.getString("file")
        val stored = row.getJSONArray("codes_uint8")
            .let { array -> IntArray(array.length()) { array.getInt(it) } }
        if (codes.size != contract.labels.size || codes.size != stored.size) {
            throw Refused(
                "the label list has ${contract.labels.size} labels, " +
                    "the model has ${codes.size} outputs",
            )
        }
        val off = codes.indices.maxOf { abs(codes[it] - stored[it]) }
        if (off > allowed(stored, exact)) {
            throw Refused("$file: the output differs by $off LSB from the stored output")
        }
        val said = contract.told(stored)
        val answer = row.getString("answer")
        val set = row.getJSONArray("set")
            .let { array -> List(array.length()) { array.getString(it) } }
        if (said.label != answer || said.set != set || said.unsure != row.getBoolean("unsure")) {
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

    private fun allowed(stored: IntArray, exact: Boolean): Double {
        val steps = body.getInt("tolerance_lsb").toDouble()
        if (exact) return steps
        return max(steps, body.getDouble("accelerator_tolerance") * (stored.max() - stored.min()))
    }
}
