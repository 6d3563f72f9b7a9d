package edgekd.sample

import androidx.camera.core.ImageProxy

/** A frame of CameraX in YUV_420_888 as an upright picture. */
fun picture(frame: ImageProxy): Picture {
    val planes = frame.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
    val stored = Preprocess.yuv420(planes[0], planes[1], planes[2], frame.width, frame.height)
    val orientation = when (val degrees = frame.imageInfo.rotationDegrees) {
        0 -> 1
        90 -> 6
        180 -> 3
        270 -> 8
        else -> throw Refused("the camera turns by $degrees degrees")
    }
    return Preprocess.upright(stored, orientation)
}
