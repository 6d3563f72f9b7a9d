package android

class Manifest {
    object permission {
        const val CAMERA = "android.permission.CAMERA"
    }
}
