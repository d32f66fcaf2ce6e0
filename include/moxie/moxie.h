/* moxie's operations on MXFP4 weights for programs in any language: plain C11, also C++.
 *
 * Everything runs on an NVIDIA Hopper GPU (compute capability 9.0). Data pointers are of the
 * current device; a stream is a cudaStream_t; workspaces and outputs are the caller's. No call
 * waits for a stream, allocates after the first call for a device, changes the current device or
 * reads an environment variable, so after that first call every call can be captured in a CUDA
 * graph. Any thread may call at any time, on workspaces of its own.
 *
 * Results.  Functions that can fail return MOXIE_OK or a status; then nothing was enqueued, and
 *   moxie_last_error() has the sentence. Wrong sizes, strides, alignments, layouts, null pointers,
 *   pointers of another device or of the host, too small a workspace: MOXIE_INVALID_ARGUMENT. What
 *   moxie or this machine does not do (a dtype, another GPU, no driver): MOXIE_UNSUPPORTED. The
 *   data itself is never looked at.
 *
 * Structs.  The caller sets struct_size to sizeof of the struct as it was compiled, and whatever it
 *   does not use to zero; zero is every field's default. Fields are only ever appended: a library
 *   newer than the caller takes the missing ones as zero, an older one refuses with
 *   MOXIE_UNSUPPORTED if a field it does not know is not zero.
 *
 * Shapes.  A matrix [rows, cols] has contiguous rows; its stride counts elements from row to row, 0
 *   standing for cols. bf16 is the upper half of a float32. An MXFP4 matrix [n, k] is codes
 *   [n, k/32, 16], two E2M1 codes a byte, the even element in the low nibble, and scales [n, k/32],
 *   E8M0: a block's factor is 2^(scale - 127), 255 means NaN. k is a multiple of 32. In the
 *   prepacked layout, which the products read, the same bytes are in another order, and n is a
 *   multiple of 16.
 *
 * Alignment.  Rows of bf16 matrices, biases, codes and prepacked scales begin at multiples of 16
 *   bytes, workspaces of 256, lists of 4.
 *
 * Limits.  65536 rows, 512 experts, 8 experts per token, 65536 rows and columns of a weight.
 */
#ifndef MOXIE_MOXIE_H_
#define MOXIE_MOXIE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOXIE_API __attribute__((visibility("default")))
#else
#define MOXIE_API
#endif

#define MOXIE_ABI_MAJOR 1
#define MOXIE_ABI_MINOR 1

/* Status. */
#define MOXIE_OK 0
#define MOXIE_INVALID_ARGUMENT 1 /* the caller's */
#define MOXIE_UNSUPPORTED 2      /* well-formed, but not something moxie or this machine does */
#define MOXIE_IO 3               /* the operating system refused */
#define MOXIE_OUT_OF_MEMORY 4
#define MOXIE_DEVICE 5   /* the GPU or its driver failed */
#define MOXIE_INTERNAL 6 /* a bug in moxie */

/* The order of bytes in MXFP4 matrices. */
#define MOXIE_LAYOUT_CHECKPOINT 0
#define MOXIE_LAYOUT_PREPACKED 1

#define MOXIE_DTYPE_BF16 0
#define MOXIE_DTYPE_F32 1

#define MOXIE_ACTIVATION_NONE 0
/* Of rows 2j and 2j + 1 of the weight: g = min(z[2j], limit), u = clamp(z[2j + 1], -limit, limit),
 * out[j] = g * sigmoid(alpha * g) * (u + 1). */
#define MOXIE_ACTIVATION_SWIGLU 1

/* How router weights are rounded; without rounding they are the float32 softmax. */
#define MOXIE_ROUND_TO_LOGITS 0
#define MOXIE_ROUND_NOT 1

/* What meets the weights of moxie_moe. */
#define MOXIE_ACTIVATIONS_BF16 0
#define MOXIE_ACTIVATIONS_FP8 1

/* How a block's scale follows from its largest magnitude amax. */
#define MOXIE_SCALE_ROUND_UP 0 /* 2^ceil(log2(amax / 6)): nothing is clipped; gpt-oss's own */
#define MOXIE_SCALE_FLOOR 1    /* 2^(floor(log2 amax) - 2): OCP's rule */
#define MOXIE_SCALE_EVEN 2     /* amax rounded to one mantissa bit, then as FLOOR */

/* MOXIE_ABI_MAJOR << 16 | MOXIE_ABI_MINOR of the library. Callers refuse another major. */
MOXIE_API uint32_t moxie_abi_version(void);

/* One sentence in UTF-8 about this thread's last failure: what was expected, what came, what to do;
 * "" before any. Valid until the thread's next failure. */
MOXIE_API const char* moxie_last_error(void);

/* ---- moxie_prepack, moxie_unpack ----
 * Permute matrices in place between the checkpoint's order and the prepacked one; exact inverses.
 * Sizes stay as they are. `layout` is the order that the bytes have before the call:
 * MOXIE_LAYOUT_CHECKPOINT for prepack, MOXIE_LAYOUT_PREPACKED for unpack, otherwise the call is
 * refused; afterwards the caller's tag is the other one. k is at most 24576. */
typedef struct moxie_prepack_args {
  uint32_t struct_size;
  uint32_t layout;
  int64_t experts; /* matrices, one behind the other */
  int64_t n, k;    /* of each */
  uint8_t* codes;  /* [experts, n, k/2] bytes */
  uint8_t* scales; /* [experts, n, k/32] bytes */
} moxie_prepack_args;
MOXIE_API int32_t moxie_prepack(const moxie_prepack_args* args, void* stream);
MOXIE_API int32_t moxie_unpack(const moxie_prepack_args* args, void* stream);

/* ---- moxie_moe ----
 * The experts block. For each row, over its experts e with weight w_e, in the order of the choice:
 *   a     = round(swiglu(x * gate_up[e]^T + gate_up_bias[e]))
 *   y_e   = round((a * down[e]^T + down_bias[e]) * w_e)
 *   out   = round(residual + round(sum of y_e))     without residual the outer sum is missing
 * round() is to bf16, sums are float32. The choice: the experts_per_token largest logits (equal
 * ones: the smaller index first) with the softmax over these, or ids and weights as given. The
 * matrices are those of experts first_expert .. first_expert + experts - 1; other ids, such as -1,
 * are skipped: neither their weights nor any matrix is read. No row names an expert twice.
 *
 * With MOXIE_ACTIVATIONS_FP8 each row of x is rounded to float8 e4m3 with a float32 factor of its
 * own, and a to e4m3 with one factor for all (8 with the default alpha and limit); weights stay
 * exact. That is for many rows, from some 128 an expert on: 2 to 20 % of the time for about 4.4e-2
 * relative RMS of error. alpha and limit must be positive.
 *
 * Error: each product's sums within (k + 16) * 2^-23 * sum|x||w| + 2^-22 * |bias|, k = hidden_size
 * or intermediate_size; sigmoid within 2^-20 + |v| * 2^-24. A row's bits depend neither on the
 * other rows nor on the run, but in bf16 calls of up to 4 rows take another kernel, with sums in
 * another order, than calls of more: a row's bits differ between the two. */
typedef struct moxie_moe_desc {
  uint32_t struct_size;
  uint32_t activations; /* MOXIE_ACTIVATIONS_ of the calls */
  int64_t rows;         /* at most */
  int64_t hidden_size, intermediate_size;
  int64_t experts; /* whose matrices are here */
  int64_t experts_per_token;
  int64_t num_logits; /* of a row; 0: ids and weights are given */
} moxie_moe_desc;

typedef struct moxie_moe_args {
  uint32_t struct_size;
  uint32_t layout; /* of gate_up and down: MOXIE_LAYOUT_PREPACKED */
  int64_t rows, hidden_size, intermediate_size;
  int64_t experts, first_expert, experts_per_token;
  const void* x; /* [rows, hidden_size] bf16 */
  int64_t x_stride;
  const void* logits; /* [rows, num_logits] of logits_dtype; or null, then ids and weights */
  int64_t num_logits, logits_stride;
  uint32_t logits_dtype;        /* MOXIE_DTYPE_ */
  uint32_t weight_rounding;     /* MOXIE_ROUND_, of weights made from logits */
  const int32_t* expert_ids;    /* [rows, experts_per_token] */
  const float* expert_weights;  /* [rows, experts_per_token] */
  const uint8_t* gate_up_codes; /* [experts, 2 * intermediate_size, hidden_size]; row 2j is gate j,
                                   row 2j + 1 up j */
  const uint8_t* gate_up_scales;
  const float* gate_up_bias; /* [experts, 2 * intermediate_size], or null */
  const uint8_t* down_codes; /* [experts, hidden_size, intermediate_size] */
  const uint8_t* down_scales;
  const float* down_bias; /* [experts, hidden_size], or null */
  float alpha, limit;     /* of SwiGLU; 0 stands for 1.702 and 7 */
  const void* residual;   /* [rows, hidden_size] bf16, or null; may be out */
  int64_t residual_stride;
  void* out; /* [rows, hidden_size] bf16; does not overlap x */
  int64_t out_stride;
  void* workspace; /* zeroed by the caller before its first use; one stream at a time, and only for
                      calls that differ in nothing but rows */
  uint64_t workspace_bytes;
  uint32_t activations; /* MOXIE_ACTIVATIONS_ */
  uint32_t reserved;    /* zero */
  /* Of FP8, or null. Grows by one for each 64 features and rows of an expert that were multiplied
     in bf16, slower, because scales of one feature lie more than 26 apart within 576 of k. */
  uint64_t* num_wide_tiles;
} moxie_moe_args;
/* Pure; more rows never need less. */
MOXIE_API int32_t moxie_moe_workspace_bytes(const moxie_moe_desc* desc, uint64_t* bytes);
MOXIE_API int32_t moxie_moe(const moxie_moe_args* args, void* stream);
/* The same in bf16 with the fields as arguments, for languages that cannot pass such a struct. */
MOXIE_API int32_t moxie_moe_flat(
    uint32_t layout, int64_t rows, int64_t hidden_size, int64_t intermediate_size, int64_t experts,
    int64_t first_expert, int64_t experts_per_token, const void* x, int64_t x_stride,
    const void* logits, int64_t num_logits, int64_t logits_stride, uint32_t logits_dtype,
    uint32_t weight_rounding, const int32_t* expert_ids, const float* expert_weights,
    const uint8_t* gate_up_codes, const uint8_t* gate_up_scales, const float* gate_up_bias,
    const uint8_t* down_codes, const uint8_t* down_scales, const float* down_bias, float alpha,
    float limit, const void* residual, int64_t residual_stride, void* out, int64_t out_stride,
    void* workspace, uint64_t workspace_bytes, void* stream);

/* ---- moxie_grouped_gemm ----
 * One product over rows grouped by expert. For each entry r of expert e, row_offsets[e] <= r <
 * row_offsets[e + 1], with z = x[gather[r], :] * weight[e]^T + bias[e] in float32:
 *   out[scatter[r], :] = round(z * row_weights[r])   or round(swiglu(z)), of half the width
 * Without a list gather[r] and scatter[r] are r and row_weights[r] is 1. An entry whose gather is
 * no row of x or whose scatter is no row of out (-1, for instance) is skipped. Rows of out that no
 * entry leads to stay as they are. Error as in moxie_moe. */
typedef struct moxie_grouped_gemm_desc {
  uint32_t struct_size;
  uint32_t reserved; /* zero */
  int64_t rows;      /* at most */
  int64_t experts, n, k;
} moxie_grouped_gemm_desc;

typedef struct moxie_grouped_gemm_args {
  uint32_t struct_size;
  uint32_t layout;     /* of the weight: MOXIE_LAYOUT_PREPACKED */
  uint32_t activation; /* MOXIE_ACTIVATION_; SwiGLU not with row_weights */
  uint32_t reserved;   /* zero */
  int64_t rows;        /* entries at most */
  int64_t experts, n, k;
  const void* x;            /* [x_rows, k] bf16 */
  int64_t x_rows, x_stride; /* x_rows counts with gather only */
  const uint8_t* codes;     /* [experts, n, k] */
  const uint8_t* scales;
  const float* bias;            /* [experts, n], or null */
  const int32_t* row_offsets;   /* [experts + 1], rising from 0 to at most rows */
  const int32_t* gather;        /* [rows], or null */
  const int32_t* scatter;       /* [rows], or null; no two entries lead to the same row */
  const float* row_weights;     /* [rows], or null */
  float alpha, limit;           /* of SwiGLU; 0 stands for 1.702 and 7 */
  void* out;                    /* [out_rows, n or n/2] bf16; does not overlap x */
  int64_t out_rows, out_stride; /* out_rows counts with scatter only */
  void* workspace;              /* as moxie_moe's */
  uint64_t workspace_bytes;
} moxie_grouped_gemm_args;
MOXIE_API int32_t moxie_grouped_gemm_workspace_bytes(const moxie_grouped_gemm_desc* desc,
                                                     uint64_t* bytes);
MOXIE_API int32_t moxie_grouped_gemm(const moxie_grouped_gemm_args* args, void* stream);

/* ---- moxie_route ----
 * The choice of experts from logits, as in moxie_moe, and which rows each expert works on. With
 * logits, expert_ids and expert_weights are written; without, they are read. A slot is row *
 * experts_per_token + i. Lists are of the experts first_expert .. first_expert + experts - 1; slots
 * with other ids are in none. Entries row_offsets[e] .. row_offsets[e + 1] are of the e-th of
 * these, in rising order of slots. Entries past row_offsets[experts] are not written. */
typedef struct moxie_route_desc {
  uint32_t struct_size;
  uint32_t reserved; /* zero */
  int64_t rows;      /* at most */
  int64_t experts, experts_per_token;
} moxie_route_desc;

typedef struct moxie_route_args {
  uint32_t struct_size;
  uint32_t logits_dtype;    /* MOXIE_DTYPE_ */
  uint32_t weight_rounding; /* MOXIE_ROUND_ */
  uint32_t reserved;        /* zero */
  int64_t rows, experts_per_token;
  const void* logits; /* [rows, num_logits], or null */
  int64_t num_logits, logits_stride;
  int32_t* expert_ids;   /* [rows, experts_per_token] */
  float* expert_weights; /* [rows, experts_per_token]; null only without logits and list_weights */
  int64_t first_expert, experts; /* of the lists */
  int32_t* row_offsets; /* [experts + 1]; null: no lists. Each of the following may be null */
  int32_t* list_rows;   /* [slots]: the row of each entry */
  int32_t* list_slots;  /* [slots]: the slot of each entry */
  float* list_weights;  /* [slots]: the weight of each entry */
  int32_t* positions;   /* [slots]: the entry of each slot, -1 if it is in none */
  void* workspace;      /* as moxie_moe's */
  uint64_t workspace_bytes;
} moxie_route_args;
MOXIE_API int32_t moxie_route_workspace_bytes(const moxie_route_desc* desc, uint64_t* bytes);
MOXIE_API int32_t moxie_route(const moxie_route_args* args, void* stream);

/* ---- moxie_mxfp4_linear ----
 * With z = x * weight^T + bias in float32: out = round(z), or round(residual + round(z)), or
 * round(swiglu(z)) of half the width. Error as in moxie_moe. */
typedef struct moxie_mxfp4_linear_desc {
  uint32_t struct_size;
  uint32_t reserved; /* zero */
  int64_t rows;      /* at most */
  int64_t n, k;
} moxie_mxfp4_linear_desc;

typedef struct moxie_mxfp4_linear_args {
  uint32_t struct_size;
  uint32_t layout;     /* of the weight: MOXIE_LAYOUT_PREPACKED */
  uint32_t activation; /* MOXIE_ACTIVATION_ */
  uint32_t reserved;   /* zero */
  int64_t rows, n, k;
  const void* x; /* [rows, k] bf16 */
  int64_t x_stride;
  const uint8_t* codes; /* [n, k] */
  const uint8_t* scales;
  const float* bias;    /* [n], or null */
  float alpha, limit;   /* of SwiGLU; 0 stands for 1.702 and 7 */
  const void* residual; /* [rows, n] bf16, or null; may be out; not with SwiGLU */
  int64_t residual_stride;
  void* out; /* [rows, n or n/2] bf16; does not overlap x */
  int64_t out_stride;
  void* workspace; /* as moxie_moe's */
  uint64_t workspace_bytes;
} moxie_mxfp4_linear_args;
MOXIE_API int32_t moxie_mxfp4_linear_workspace_bytes(const moxie_mxfp4_linear_desc* desc,
                                                     uint64_t* bytes);
MOXIE_API int32_t moxie_mxfp4_linear(const moxie_mxfp4_linear_args* args, void* stream);

/* ---- moxie_quantize_mxfp4, moxie_dequantize_mxfp4 ----
 * bf16 to blocks in the checkpoint's order, and back. Decoding is exact, but for products past
 * bf16's largest number (scales 253 and 254), which are clamped to it, and scale 255, which gives
 * NaN. Encoding rounds to nearest, ties to the even code; an infinity makes its block NaN (scale
 * 255), a NaN among numbers becomes 6 times the scale. */
typedef struct moxie_quantize_mxfp4_args {
  uint32_t struct_size;
  uint32_t scale_rule; /* MOXIE_SCALE_ */
  int64_t rows, k;
  const void* values; /* [rows, k] bf16, without gaps */
  uint8_t* codes;     /* [rows, k/32, 16] */
  uint8_t* scales;    /* [rows, k/32] */
} moxie_quantize_mxfp4_args;
MOXIE_API int32_t moxie_quantize_mxfp4(const moxie_quantize_mxfp4_args* args, void* stream);

typedef struct moxie_dequantize_mxfp4_args {
  uint32_t struct_size;
  uint32_t reserved; /* zero */
  int64_t rows, k;
  const uint8_t* codes;
  const uint8_t* scales;
  void* values; /* [rows, k] bf16, without gaps */
} moxie_dequantize_mxfp4_args;
MOXIE_API int32_t moxie_dequantize_mxfp4(const moxie_dequantize_mxfp4_args* args, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* MOXIE_MOXIE_H_ */
