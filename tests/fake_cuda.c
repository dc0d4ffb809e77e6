/* A CUDA driver for programs in C: the device's memory is the host's, streams wait for nothing, and a kernel is a
   function of libkernels.so that does all blocks. known.h lists {name, count of parameters} of the kernels. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct kernel {
    const char *name;
    int words;
};

static const struct kernel known[] = {
#include "known.h"
};

enum { OUT_OF_MEMORY = 2, INVALID_VALUE = 1, NOT_FOUND = 500, MOST_WORDS = 64 };

int cuInit(unsigned int flags) { return flags ? INVALID_VALUE : 0; }
int cuDeviceGet(int *device, int number) { return *device = number; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)known, device; }
int cuCtxSetCurrent(void *context) { return context == known ? 0 : INVALID_VALUE; }

int cuMemAlloc_v2(uint64_t *found, size_t size) {
    void *memory = aligned_alloc(256, (size + 255) / 256 * 256);
    if (!memory)
        return OUT_OF_MEMORY;
    memset(memory, 0xFF, size); /* what nobody wrote is no number */
    *found = (uint64_t)memory;
    return 0;
}

int cuMemcpyHtoD_v2(uint64_t target, const void *source, size_t size) {
    return memcpy((void *)target, source, size) ? 0 : INVALID_VALUE;
}

int cuMemcpyDtoH_v2(void *target, uint64_t source, size_t size) {
    return memcpy(target, (void *)source, size) ? 0 : INVALID_VALUE;
}

int cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t size, void *stream) {
    return stream ? INVALID_VALUE : cuMemcpyHtoD_v2(target, (void *)source, size);
}

int cuMemsetD8Async(uint64_t target, unsigned char byte, size_t size, void *stream) {
    memset((void *)target, byte, size);
    return stream ? INVALID_VALUE : 0;
}

int cuModuleLoadData(void **module, const void *text) {
    *module = dlopen("libkernels.so", RTLD_NOW);
    return *module && strstr(text, ".version 8.0") ? 0 : INVALID_VALUE;
}

int cuModuleUnload(void *module) { return dlclose(module); }

int cuModuleGetFunction(void **function, void *module, const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name) && dlsym(module, name))
            return *function = (void *)&known[i], 0;
    return NOT_FOUND;
}

int cuFuncSetAttribute(void *function, int attribute, int value) { return function && attribute == 8 ? 0 : value; }

int cuLaunchKernel(void *function, unsigned int x, unsigned int y, unsigned int z, unsigned int threads,
                   unsigned int threads_y, unsigned int threads_z, unsigned int shared, void *stream, void **given,
                   void **extra) {
    const struct kernel *kernel = function;
    int64_t words[MOST_WORDS];
    void (*run)(const int64_t *, void *, int64_t);
    *(void **)&run = dlsym(dlopen("libkernels.so", RTLD_NOW), kernel->name);
    if (x < 1 || y != 1 || z != 1 || threads < 1 || threads_y != 1 || threads_z != 1 || stream || extra)
        return INVALID_VALUE;
    for (int i = 0; i < kernel->words; i++)
        memcpy(&words[i], given[i], 8);
    void *room = aligned_alloc(256, (shared / 256 + 1) * 256);
    memset(room, 0xFF, shared);
    run(words, room, x);
    free(room);
    return 0;
}
