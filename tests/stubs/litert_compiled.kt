// Signatures of LiteRT 2's Kotlin API (com.google.ai.edge.litert), for compiling the sample without
// its package. Nothing here works.
@file:Suppress("UNUSED_PARAMETER", "unused")

package com.google.ai.edge.litert

import android.content.Context
import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

interface NpuAcceleratorProvider

class BuiltinNpuAcceleratorProvider(context: Context) : NpuAcceleratorProvider

abstract class JniHandle : AutoCloseable {
    override fun close() {}
}

class Environment : JniHandle() {
    enum class Option { CompilerPluginLibraryDir, DispatchLibraryDir }

    companion object {
        fun create(
            context: Context, options: Map<Option, String> = mapOf(),
            enableCompilerCache: Boolean = true,
        ): Environment = TODO()

        fun create(
            context: Context, npuAcceleratorProvider: NpuAcceleratorProvider,
            options: Map<Option, String> = mapOf(), enableCompilerCache: Boolean = true,
        ): Environment = TODO()
    }
}

class TensorBuffer : JniHandle() {
    fun writeInt8(data: ByteArray) {}
    fun readInt8(): ByteArray = TODO()
}

class CompiledModel : JniHandle() {
    class Options(vararg val accelerators: Accelerator)

    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()
    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = TODO()
    fun run(
        inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0,
    ) {}

    companion object {
        fun create(
            assetManager: AssetManager, assetName: String, options: Options,
            optionalEnv: Environment? = null,
        ): CompiledModel = TODO()
    }
}
