plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgekd.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "edgekd.@@IDENTIFIER@@"
        // Android 8. The LiteRT 1.x package needs 21, and ExifInterface on a stream needs 24.
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions {
        jvmTarget = "17"
    }
    androidResources {
        noCompress += "tflite" // so that the model can be memory-mapped from the package
    }
    sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("bundle"))
}

// Copies the bundle's files, which lie two folders up, into the app's assets.
val bundleAssets by tasks.registering(Copy::class) {
    from(rootDir.resolve("../..")) {
        include("model.tflite", "labels.txt", "deployment.json", "golden/**")
    }
    into(layout.buildDirectory.dir("bundle"))
}
tasks.named("preBuild") { dependsOn(bundleAssets) }

dependencies {
    implementation("com.google.ai.edge.litert:litert:1.4.0")
}
