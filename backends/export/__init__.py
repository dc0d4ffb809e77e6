"""A compiled step as files that run without Python: a library, its header, a manifest, loaders and samples.

library     what goes in: functions, the states they share and where these lie in one block
signatures  the C functions and structures, from which all else is written
interface   those functions in LLVM IR: they look at what they are given, then call what the compiler made
kernels     what a library does besides its steps: first numbers, sums over the state, orders
build       all of it compiled for a target and linked
header      the C header
"""
