"""TensorFlow Lite Micro on a microcontroller: its tensor arena, byte by byte.

Start with micro_arena.py, which adds up the arena. struct_sizes.py has the sizes of the runtime's
own structures, kernel_scratch.py the buffers of the kernels.
"""
