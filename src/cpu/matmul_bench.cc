// Speed of linear and moe at the shapes of gpt-oss-20b, beside what the machine can do at best,
// measured in the same run. Not a test: run it by hand on a quiet machine.
//
//   matmul_bench [threads] [instruction set ...]
//
// Weights are cold: decode rotates over more than 500 MB of them.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/memory.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
#include "cpu/linear.h"
#include "cpu/moe.h"
#include "ops/reference/random.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kHidden = 2880, kInner = 2880, kExperts = 32, kChosen = 4, kQWidth = 4096;
constexpr int64_t kVocab = 201088, kQkvWidth = 5120;
constexpr int64_t kLayers = 2;  // of experts: 850 MB

struct Data {
  PageBuffer dense, gate_up_codes, gate_up_scales, down_codes, down_scales, x, residual, out,
      logits;
  std::vector<float> bias;

  static constexpr int64_t kMaxRows = 512;

  explicit Data(ThreadPool& pool)
      : dense(static_cast<size_t>(kVocab * kHidden * 2)),
        gate_up_codes(static_cast<size_t>(kLayers * kExperts * 2 * kInner * kHidden / 2)),
        gate_up_scales(static_cast<size_t>(kLayers * kExperts * 2 * kInner * kHidden / 32)),
        down_codes(static_cast<size_t>(kLayers * kExperts * kHidden * kInner / 2)),
        down_scales(static_cast<size_t>(kLayers * kExperts * kHidden * kInner / 32)),
        x(static_cast<size_t>(kMaxRows * kQkvWidth * 2)),
        residual(x.size_bytes()),
        out(x.size_bytes()),
        logits(static_cast<size_t>(kVocab * 4)),
        bias(static_cast<size_t>(kExperts * 2 * kInner)) {
    fill_bf16(pool, dense, 0.02f);
    fill_bf16(pool, x, 1);
    fill_bf16(pool, residual, 1);
    for (const PageBuffer* codes : {&gate_up_codes, &down_codes}) {
      pool.parallel_for(64, [&](int task, int) {
        auto words = codes->as<uint64_t>();
        for (size_t i = static_cast<size_t>(task); i < words.size(); i += 64)
          words[i] = random_bits(7, i);
      });
    }
    for (const PageBuffer* scales : {&gate_up_scales, &down_scales})
      for (size_t i = 0; i < scales->size_bytes(); ++i)
        scales->data()[i] = static_cast<uint8_t>(118 + random_bits(8, i) % 4);
    fill_normal(std::span(bias), 9);
  }

  // 4096 different numbers, repeated: fast to make, and no two neighbouring rows alike.
  static void fill_bf16(ThreadPool& pool, PageBuffer& buffer, float deviation) {
    std::vector<bf16> numbers(4099);
    fill_normal(std::span(numbers), 5, deviation);
    auto out = buffer.as<bf16>();
    pool.parallel_for(64, [&](int task, int) {
      const size_t begin = out.size() * static_cast<size_t>(task) / 64;
      const size_t end = out.size() * static_cast<size_t>(task + 1) / 64;
      for (size_t i = begin; i < end; ++i) out[i] = numbers[i % numbers.size()];
    });
  }

  Mxfp4Matrices gate_up(int64_t layer) const {
    return {gate_up_codes.data() + layer * kExperts * kInner * kHidden,
            gate_up_scales.data() + layer * kExperts * kInner * kHidden / 16, kExperts, 2 * kInner,
            kHidden};
  }
  Mxfp4Matrices down(int64_t layer) const {
    return {down_codes.data() + layer * kExperts * kInner * kHidden / 2,
            down_scales.data() + layer * kExperts * kInner * kHidden / 32, kExperts, kHidden,
            kInner};
  }
};

// Seconds of one call: the median of many.
template <class Call>
double median_seconds(const Call& call) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  const auto begin = Clock::now();
  for (int i = 0; i < 200; ++i) {
    const auto start = Clock::now();
    call(i);
    const auto end = Clock::now();
    if (i > 0) seconds.push_back(std::chrono::duration<double>(end - start).count());
    if (i >= 3 && std::chrono::duration<double>(end - begin).count() > 0.7) break;
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<ptrdiff_t>(seconds.size() / 2),
                   seconds.end());
  return seconds[seconds.size() / 2];
}

class Bench {
 public:
  Bench(Data& data, ThreadPool& pool, Isa isa, double bandwidth)
      : data_(data), bandwidth_(bandwidth), peak_(measure_peak_flops(pool, isa)) {
    limits_ = {.max_rows = Data::kMaxRows,
               .hidden_size = kHidden,
               .intermediate_size = kInner,
               .num_q_heads = 64,
               .head_dim = 64,
               .num_experts = kExperts,
               .experts_per_token = kChosen};
    const int64_t bytes = std::max(linear_scratch_bytes(limits_, isa, pool.num_threads()),
                                   moe_scratch_bytes(limits_, isa, pool.num_threads()));
    scratch_ = PageBuffer(static_cast<size_t>(bytes));
    context_ =
        std::make_unique<Context>(Context{.pool = pool,
                                          .isa = isa,
                                          .limits = limits_,
                                          .scratch = {scratch_.data(), scratch_.size_bytes()}});
    std::printf("%s: peak %.0f GFLOP/s, scratch %.1f MB\n", name(isa), peak_ * 1e-9,
                static_cast<double>(bytes) * 1e-6);
  }

  void run() {
    linear_case("router", kExperts, kHidden);
    linear_case("qkv", kQkvWidth, kHidden);
    linear_case("attention out", kHidden, kQWidth);
    linear_case("unembedding", kVocab, kHidden);
    for (const int64_t rows : {1, 2, 4, 16}) moe_case(Phase::kDecode, rows);
    for (const int64_t rows : {64, 512}) moe_case(Phase::kPrefill, rows);
  }

 private:
  void linear_case(const char* what, int64_t n, int64_t k) {
    const int64_t copies = std::max<int64_t>(1, kVocab * kHidden / (n * k));
    const bool is_unembedding = n == kVocab;
    const auto call = [&](Phase phase, int64_t rows, int64_t i) {
      LinearArgs args;
      args.phase = phase;
      args.x = {data_.x.data(), DType::kBF16, rows, k, k};
      args.weight = {data_.dense.as<bf16>().data() + i * 37 % copies * n * k, n, k};
      args.bias = is_unembedding ? nullptr : data_.bias.data();
      args.out = {data_.out.data(), DType::kBF16, rows, n, n};
      if (is_unembedding) args.out = {data_.logits.data(), DType::kF32, rows, n, n};
      linear(args, *context_);
    };
    for (const int64_t rows : {1, 4}) {
      if (rows > 1 && is_unembedding) continue;
      report(what, Phase::kDecode, rows, 2.0 * static_cast<double>(n * k), 0,
             median_seconds([&](int i) { call(Phase::kDecode, rows, i); }));
    }
    if (!is_unembedding)
      report(what, Phase::kPrefill, 512, 0, 2.0 * 512 * static_cast<double>(n * k),
             median_seconds([&](int i) { call(Phase::kPrefill, 512, i); }));
  }

  void moe_case(Phase phase, int64_t rows) {
    std::vector<int32_t> ids(static_cast<size_t>(rows * kChosen));
    const std::vector<float> weights(ids.size(), 0.25f);
    int64_t experts_hit = 0;
    const double seconds = median_seconds([&](int i) {
      std::vector<bool> hit(kExperts);
      for (int64_t row = 0; row < rows; ++row) {
        // Four different experts; a single row walks through all of them.
        const auto first = rows == 1
                               ? static_cast<uint64_t>(4 * i)
                               : random_bits(static_cast<uint64_t>(i), static_cast<uint64_t>(row));
        for (uint64_t j = 0; j < 4; ++j) {
          const uint64_t step = rows == 1 ? 1 : 1 + first / 64 % 10;
          ids[static_cast<size_t>(row) * 4 + j] =
              static_cast<int32_t>((first + j * step) % kExperts);
          hit[(first + j * step) % kExperts] = true;
        }
      }
      experts_hit = std::count(hit.begin(), hit.end(), true);
      MoeArgs args;
      args.phase = phase;
      args.x = {data_.x.data(), DType::kBF16, rows, kHidden, kHidden};
      args.experts_per_token = kChosen;
      args.expert_ids = ids;
      args.weights = weights;
      args.gate_up = data_.gate_up(i / 8 % kLayers);
      args.down = data_.down(i / 8 % kLayers);
      args.gate_up_bias = args.down_bias = data_.bias.data();
      args.residual = {data_.residual.data(), DType::kBF16, rows, kHidden, kHidden};
      args.out = {data_.out.data(), DType::kBF16, rows, kHidden, kHidden};
      moe(args, *context_);
    });
    const double numbers = 3.0 * kInner * kHidden;
    if (phase == Phase::kDecode)
      report("moe", phase, rows, static_cast<double>(experts_hit) * numbers * 17 / 32, 0, seconds);
    else
      report("moe", phase, rows, 0, 2.0 * static_cast<double>(rows * kChosen) * numbers, seconds);
  }

  void report(const char* what, Phase phase, int64_t rows, double bytes, double flops,
              double seconds) const {
    std::printf("  %-14s %-7s %4d rows %9.3f ms ", what,
                phase == Phase::kPrefill ? "prefill" : "decode", static_cast<int>(rows),
                seconds * 1e3);
    if (bytes > 0)
      std::printf("%8.1f GB/s    %5.1f %% of bandwidth\n", bytes / seconds * 1e-9,
                  100 * bytes / seconds / bandwidth_);
    else
      std::printf("%8.1f GFLOP/s %5.1f %% of peak\n", flops / seconds * 1e-9,
                  100 * flops / seconds / peak_);
    std::fflush(stdout);
  }

  Data& data_;
  double bandwidth_, peak_;
  BackendLimits limits_;
  PageBuffer scratch_;
  std::unique_ptr<Context> context_;
};

int run(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : available_cpus();
  std::vector<Isa> isas;
  for (int i = 2; i < argc; ++i)
    if (const auto isa = parse_isa(argv[i]); isa && *isa <= best_isa()) isas.push_back(*isa);
  if (isas.empty()) isas = usable_isas();
  ThreadPool pool(std::max(1, threads));
  const double bandwidth = measure_read_bandwidth(pool);
  std::printf("%s, %d threads, reads %.1f GB/s\n", describe_cpu().model_name.c_str(),
              pool.num_threads(), bandwidth * 1e-9);
  Data data(pool);
  for (const Isa isa : isas) Bench(data, pool, isa, bandwidth).run();
  return 0;
}

}  // namespace
}  // namespace moxie::cpu

int main(int argc, char** argv) { return moxie::cpu::run(argc, argv); }
