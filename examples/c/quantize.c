/* An MXFP4 linear layer from C: a bf16 weight is quantised on the GPU, brought into the order that
 * the kernels read, multiplied by four rows, and compared with the same on the host.
 *
 *   cc -std=c11 quantize.c -lmoxie -ldl -o quantize && ./quantize
 *
 * Exit status: 0 the results are right, 1 something failed, 3 this machine has no GPU for it (the
 * sentence says what is missing).
 *
 * Device memory comes from the driver itself, so that nothing of CUDA is needed to compile this; a
 * program that has the CUDA runtime takes cudaMalloc and a cudaStream_t. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moxie/moxie.h"

enum { kRows = 4, kN = 64, kK = 128, kBlocks = kN * kK / 32 };

/* --- the little of the driver's interface that is needed --- */

typedef uint64_t device_pointer;
typedef struct driver {
  int (*init)(unsigned);
  int (*device_get)(int*, int);
  int (*retain_context)(void**, int);
  int (*set_context)(void*);
  int (*alloc)(device_pointer*, size_t);
  int (*free)(device_pointer);
  int (*to_device)(device_pointer, const void*, size_t);
  int (*to_host)(void*, device_pointer, size_t);
  int (*synchronize)(void);
} driver;

/* 0, or -1 if there is no driver or no device: then the driver's functions are not used. */
static int open_driver(driver* d) {
  const struct {
    const char* name;
    void* place;
  } functions[] = {
      {"cuInit", &d->init},
      {"cuDeviceGet", &d->device_get},
      {"cuDevicePrimaryCtxRetain", &d->retain_context},
      {"cuCtxSetCurrent", &d->set_context},
      {"cuMemAlloc_v2", &d->alloc},
      {"cuMemFree_v2", &d->free},
      {"cuMemcpyHtoD_v2", &d->to_device},
      {"cuMemcpyDtoH_v2", &d->to_host},
      {"cuCtxSynchronize", &d->synchronize},
  };
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) return -1;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; ++i) {
    void* function = dlsym(library, functions[i].name);
    if (function == NULL) return -1;
    memcpy(functions[i].place, &function, sizeof function); /* the way POSIX names for it */
  }
  int device = 0;
  void* context = NULL;
  if (d->init(0) != 0 || d->device_get(&device, 0) != 0) return -1;
  return d->retain_context(&context, device) == 0 && d->set_context(context) == 0 ? 0 : -1;
}

/* What the program holds, to be given back at its end. */
typedef struct memory {
  const driver* d; /* null: the host's memory stands in, and moxie says what it misses */
  void* buffers[6];
  int count;
} memory;

static void* allocate(memory* m, size_t bytes) {
  device_pointer pointer = 0;
  void* buffer = NULL;
  if (m->d == NULL)
    buffer = aligned_alloc(256, (bytes + 255) / 256 * 256);
  else if (m->d->alloc(&pointer, bytes) == 0)
    buffer = (void*)(uintptr_t)pointer;
  m->buffers[m->count++] = buffer;
  return buffer;
}

static void release(memory* m) {
  for (int i = 0; i < m->count; ++i)
    if (m->d == NULL)
      free(m->buffers[i]);
    else if (m->buffers[i] != NULL)
      m->d->free((device_pointer)(uintptr_t)m->buffers[i]);
}

/* --- bf16 --- */

static uint16_t to_bf16(float value) { /* of values whose lower half is zero */
  uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)(bits >> 16);
}
static float from_bf16(uint16_t value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result = 0;
  memcpy(&result, &bits, sizeof result);
  return result;
}

static int failed(const char* what, int32_t status) {
  printf("%s: %s\n", what, moxie_last_error());
  return status == MOXIE_UNSUPPORTED ? 3 : 1;
}

static int run(memory* m) {
  const driver* d = m->d;
  /* Quarters up to 6 that MXFP4 holds exactly, so the host knows the weight without decoding. */
  static const float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  static uint16_t weight[kN * kK], x[kRows * kK], out[kRows * kN];
  for (int i = 0; i < kN * kK; ++i)
    weight[i] = to_bf16((i % 3 == 0 ? -1.0f : 1.0f) * kValues[(i * 7 + i / 32) % 8]);
  for (int i = 0; i < kRows * kK; ++i) x[i] = to_bf16((float)(i % 9 - 4));

  void* d_weight = allocate(m, sizeof weight);
  void* d_x = allocate(m, sizeof x);
  void* d_out = allocate(m, sizeof out);
  uint8_t* codes = allocate(m, kBlocks * 16);
  uint8_t* scales = allocate(m, kBlocks);
  if (!d_weight || !d_x || !d_out || !codes || !scales) {
    printf("no memory\n");
    return 1;
  }
  if (d != NULL && (d->to_device((device_pointer)(uintptr_t)d_weight, weight, sizeof weight) != 0 ||
                    d->to_device((device_pointer)(uintptr_t)d_x, x, sizeof x) != 0)) {
    printf("copying to the device failed\n");
    return 1;
  }

  const moxie_quantize_mxfp4_args quantize = {.struct_size = sizeof quantize,
                                              .scale_rule = MOXIE_SCALE_ROUND_UP,
                                              .rows = kN,
                                              .k = kK,
                                              .values = d_weight,
                                              .codes = codes,
                                              .scales = scales};
  int32_t status = moxie_quantize_mxfp4(&quantize, NULL);
  if (status != MOXIE_OK) return failed("quantize", status);

  const moxie_prepack_args prepack = {.struct_size = sizeof prepack,
                                      .layout = MOXIE_LAYOUT_CHECKPOINT,
                                      .experts = 1,
                                      .n = kN,
                                      .k = kK,
                                      .codes = codes,
                                      .scales = scales};
  status = moxie_prepack(&prepack, NULL);
  if (status != MOXIE_OK) return failed("prepack", status);

  const moxie_mxfp4_linear_desc sizes = {
      .struct_size = sizeof sizes, .rows = kRows, .n = kN, .k = kK};
  uint64_t workspace_bytes = 0;
  status = moxie_mxfp4_linear_workspace_bytes(&sizes, &workspace_bytes);
  if (status != MOXIE_OK) return failed("workspace", status);
  void* workspace = NULL;
  if (workspace_bytes > 0) { /* zeroed once, before its first use */
    void* zeros = calloc(1, workspace_bytes);
    workspace = allocate(m, workspace_bytes);
    if (zeros == NULL || workspace == NULL ||
        d->to_device((device_pointer)(uintptr_t)workspace, zeros, workspace_bytes) != 0) {
      free(zeros);
      printf("no workspace\n");
      return 1;
    }
    free(zeros);
  }

  const moxie_mxfp4_linear_args linear = {.struct_size = sizeof linear,
                                          .layout = MOXIE_LAYOUT_PREPACKED,
                                          .rows = kRows,
                                          .n = kN,
                                          .k = kK,
                                          .x = d_x,
                                          .codes = codes,
                                          .scales = scales,
                                          .out = d_out,
                                          .workspace = workspace,
                                          .workspace_bytes = workspace_bytes};
  status = moxie_mxfp4_linear(&linear, NULL);
  if (status != MOXIE_OK) return failed("linear", status);
  if (d->synchronize() != 0 || d->to_host(out, (device_pointer)(uintptr_t)d_out, sizeof out) != 0) {
    printf("the device failed\n");
    return 1;
  }

  int wrong = 0;
  for (int row = 0; row < kRows; ++row)
    for (int n = 0; n < kN; ++n) {
      float sum = 0; /* small halves: exact */
      for (int k = 0; k < kK; ++k)
        sum += from_bf16(x[row * kK + k]) * from_bf16(weight[n * kK + k]);
      const float got = from_bf16(out[row * kN + n]);
      if (fabsf(got - sum) > fabsf(sum) / 256) ++wrong; /* half an ulp of bf16 */
    }
  printf("linear: %d of %d results are right\n", kRows * kN - wrong, kRows * kN);
  return wrong == 0 ? 0 : 1;
}

int main(void) {
  if (moxie_abi_version() >> 16 != MOXIE_ABI_MAJOR) {
    printf("this program was compiled for ABI %d, the library has %u\n", MOXIE_ABI_MAJOR,
           (unsigned)(moxie_abi_version() >> 16));
    return 1;
  }
  driver functions;
  memory m = {.d = open_driver(&functions) == 0 ? &functions : NULL};
  const int status = run(&m);
  release(&m);
  return status;
}
