#include "hopper/mxfp4_linear.h"

namespace moxie::hopper {

bool supports_mxfp4_linear(int rows, int n, int k) {
  return rows >= 1 && supports_grouped_gemm(n, k);
}

namespace {

// Few rows by a weight so large that tiles of 128 features fill the machine twice over: its k in
// four parts whatever the number of rows, so that a row's bits do not depend on it.
bool few_rows_by_large_weight(int rows, int n, int k, int num_sms) {
  const int tiles = (n + 127) / 128;
  return rows <= 16 && k >= 4096 && 2 * tiles <= num_sms && 2 * tiles >= num_sms * 5 / 6;
}

}  // namespace

LinearConfig select_mxfp4_linear_config(int rows, int n, int k, int num_sms) {
  LinearConfig config;
  if (supports_linear_wgmma(rows, n, k) && few_rows_by_large_weight(rows, n, k, num_sms)) {
    config.kernel = LinearConfig::Kernel::kWgmma;
    config.wgmma.feature_groups = config.wgmma.depth_groups = config.wgmma.cluster = 2;
    config.wgmma.tile_rows = rows <= 8 ? 8 : 16;
    config.wgmma = linear_wgmma_config(config.wgmma, rows, n, k, num_sms);
    return config;
  }
  if (supports_linear_stream(rows, n, k)) {
    config.stream = select_linear_stream_config(rows, n, k, num_sms);
    return config;
  }
  if (supports_linear_wgmma(rows, n, k)) {
    config.kernel = LinearConfig::Kernel::kWgmma;
    config.wgmma = select_linear_wgmma_config(rows, n, k, num_sms);
    return config;
  }
  config.kernel = LinearConfig::Kernel::kGrouped;
  config.grouped = select_grouped_gemm_config(rows, 1, k, 0, num_sms);
  return config;
}

std::string to_string(const LinearConfig& config) {
  switch (config.kernel) {
    case LinearConfig::Kernel::kStream:
      return to_string(config.stream);
    case LinearConfig::Kernel::kWgmma:
      return to_string(config.wgmma);
    default:
      return to_string(config.grouped);
  }
}

cudaError_t launch_mxfp4_linear(const LinearStreamArgs& args, const LinearConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  if (config.kernel == LinearConfig::Kernel::kStream)
    return launch_linear_stream(args, config.stream, overlap_previous, stream);
  if (config.kernel == LinearConfig::Kernel::kWgmma)
    return launch_linear_wgmma(args, config.wgmma, overlap_previous, stream);
  GroupedGemmArgs gemm;
  gemm.rows = args.rows;
  gemm.alpha = args.alpha, gemm.limit = args.limit;
  GroupedProduct& product = gemm.product[0];
  product.x = args.x, product.x_stride = args.x_stride;
  product.codes = args.codes, product.scales = args.scales, product.bias = args.bias;
  product.residual = args.residual, product.residual_stride = args.residual_stride;
  product.out = args.out, product.out_stride = args.out_stride;
  product.n = args.n, product.k = args.k, product.swiglu = args.swiglu;
  return launch_grouped_gemm(gemm, config.grouped, stream);
}

}  // namespace moxie::hopper
