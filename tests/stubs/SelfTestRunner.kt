// Runs the sample's own Contract, Preprocess and SelfTest on a JVM. Answers come from a file of (input codes, output codes), so
// that any other input, which a wrong resize or channel order makes, finds none.
package edgekd.sample

import java.io.File
import javax.imageio.ImageIO
import kotlin.system.exitProcess

private fun decode(file: File): Picture {
    val image = ImageIO.read(file)
    val raster = image.raster
    val data = ByteArray(image.width * image.height * 3)
    for (y in 0 until image.height) for (x in 0 until image.width) for (c in 0 until 3) {
        data[(y * image.width + x) * 3 + c] = raster.getSample(x, y, if (raster.numBands == 1) 0 else c).toByte()
    }
    return Picture(image.width, image.height, data)
}

private fun hex(data: ByteArray) = data.joinToString("") { "%02x".format(it.toInt() and 255) }

fun main(arguments: Array<String>) {
    val (bundle, answers) = arguments
    val known = File(answers).readLines().associate { line ->
        val (input, output) = line.split(" ")
        input to output.split(",").map { it.toInt() }.toIntArray()
    }
    val contract = Contract(File(bundle, "deployment.json").readText(), File(bundle, "labels.txt").readText())
    try {
        val count = SelfTest(File(bundle, "golden/golden.json").readText()).run(
            contract, { decode(File(bundle, it)) }, { known[hex(it)] ?: throw Refused("an input that the host never made") })
        println("passed $count")
    } catch (error: Refused) {
        println("refused ${error.message}")
        exitProcess(3)
    }
}
