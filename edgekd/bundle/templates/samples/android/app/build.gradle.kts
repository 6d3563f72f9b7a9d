plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgekd.sample"
    compileSdk = 36
    defaultConfig {
        applicationId = "edgekd.@@IDENTIFIER@@"
        // Android 8: java.util.Base64 needs 26, and LiteRT 2.3 needs 24.
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }
    // compiled: LiteRT 2, whose CompiledModel runs on the CPU, a GPU or an NPU.
    // interpreter: LiteRT 1, whose Interpreter runs on the CPU.
    flavorDimensions += "runtime"
    productFlavors {
        create("compiled") { dimension = "runtime" }
        create("interpreter") { dimension = "runtime" }
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
        include("samples/preprocess_vectors.json")
    }
    into(layout.buildDirectory.dir("bundle"))
}
tasks.named("preBuild") { dependsOn(bundleAssets) }

dependencies {
    "compiledImplementation"("com.google.ai.edge.litert:litert:2.3.0")
    // Without this package, a GPU is refused. From 2.3 on it is one of its own.
    "compiledImplementation"("com.google.ai.edge.litert:litert-gpu:2.3.0")
    "interpreterImplementation"("com.google.ai.edge.litert:litert:1.4.0")
    implementation("androidx.activity:activity-ktx:1.12.1")
    implementation("androidx.core:core-ktx:1.17.0")
    implementation("androidx.camera:camera-camera2:1.5.2")
    implementation("androidx.camera:camera-lifecycle:1.5.2")
    implementation("androidx.camera:camera-view:1.5.2")
    androidTestImplementation("androidx.test:runner:1.6.2")
    androidTestImplementation("androidx.test.ext:junit:1.2.1")
    androidTestImplementation("junit:junit:4.13.2")
}
