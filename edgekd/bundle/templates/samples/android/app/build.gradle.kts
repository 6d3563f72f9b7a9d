plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgekd.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "edgekd.@@IDENTIFIER@@"
        minSdk = 26 // Android 8: what LiteRT 1.x's package asks for is 21, and java.time and ExifInterface are there by 24
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
        noCompress += "tflite" // the model is memory-mapped from the package
    }
    sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("bundle"))
}

// The app's assets are the bundle's own files, two folders up: nothing is copied by hand.
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
