// Runs the sample's own Contract, Preprocess, SelfTest and Vectors on a JVM. Answers come from a
// file of (input codes, output codes), so that any other input, which a wrong resize or channel
// order makes, finds none. Arguments: BUNDLE ANSWERS, "exact" or "near", and how far each code is
// off.
package edgekd.sample

import java.io.File
import javax.imageio.ImageIO
import kotlin.system.exitProcess

private fun decode(file: File): Picture {
    val image = ImageIO.read(file)
    val raster = image.raster
    val data = ByteArray(image.width * image.height * 3)
    for (y in 0 until image.height) for (x in 0 until image.width) for (c in 0 until 3) {
        val band = if (raster.numBands == 1) 0 else c
        data[(y * image.width + x) * 3 + c] = raster.getSample(x, y, band).toByte()
    }
    return Picture(image.width, image.height, data)
}

private fun hex(data: ByteArray) = data.joinToString("") { "%02x".format(it.toInt() and 255) }

fun main(arguments: Array<String>) {
    val (bundle, answers, kind, steps) = arguments
    val known = File(answers).readLines().associate { line ->
        val (input, output) = line.split(" ")
        val codes = output.split(",").map { (it.toInt() + steps.toInt()).coerceIn(0, 255) }
        input to codes.toIntArray()
    }
    fun text(name: String) = File(bundle, name).readText()
    val contract = Contract(text("deployment.json"), text("labels.txt"))
    try {
        val count = SelfTest(text("golden/golden.json")).run(
            contract, kind == "exact", { decode(File(bundle, it)) },
            { known[hex(it)] ?: throw Refused("an input that the host never made") },
        )
        println("passed $count ${Vectors(text("samples/preprocess_vectors.json")).check()}")
    } catch (error: Refused) {
        println("refused ${error.message}")
        exitProcess(3)
    }
}
