// One MXFP4 linear for many rows on Hopper: see the head of linear_wgmma.cu.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "hopper/linear_stream.h"

namespace moxie::hopper {

struct LinearWgmmaConfig {
  int feature_groups = 3;   // warpgroups side by side, 64 features each: 2 or 3
  int depth_groups = 1;     // warpgroups behind each other that divide k: 1 or 2
  int tile_rows = 64;       // 8 .. 256: linear_wgmma.cu lists what there is
  int cluster = 1;          // CTAs that divide the k of a tile: 1 .. 8
  bool share_rows = false;  // two CTAs with the same rows read half of them each
  int stages = 2;           // of rows
  int tiles = 0;            // of a CTA, or of the two that share rows
  int ctas = 0;
  int shared_bytes = 0;
};

// n % 16 == 0, k % 32 == 0, both positive.
bool supports_linear_wgmma(int rows, int n, int k);
// The configuration that takes the least time by a model of the kernel (linear_wgmma.cu). REQUIRES
// supports_linear_wgmma.
LinearWgmmaConfig select_linear_wgmma_config(int rows, int n, int k, int num_sms);
// With stages, tiles, CTAs and shared memory filled in for the rest; no rows shared where that is
// not possible; 0 stages if not one fits.
LinearWgmmaConfig linear_wgmma_config(LinearWgmmaConfig config, int rows, int n, int k,
                                      int num_sms);
// Every configuration for which there is a kernel, but those that divide k with tiles enough.
std::vector<LinearWgmmaConfig> linear_wgmma_configs(int rows, int n, int k, int num_sms);
// What the model says, in microseconds.
double linear_wgmma_us(const LinearWgmmaConfig& config, int rows, int n, int k, int num_sms);
std::string to_string(const LinearWgmmaConfig& config);

// Asks the driver once per process and device for the shared memory that the kernels use.
cudaError_t prepare_linear_wgmma();
// As LinearStreamArgs say, for any number of rows; rows of x, out and residual and bias
// 16-byte aligned.
// REQUIRES supports_linear_wgmma and prepare_linear_wgmma.
//
// Error  as there, with clusters in place of parts; the sum's order depends on k and its parts,
//        config.cluster * config.depth_groups
cudaError_t launch_linear_wgmma(const LinearStreamArgs& args, const LinearWgmmaConfig& config,
                                bool overlap_previous, cudaStream_t stream);

}  // namespace moxie::hopper
