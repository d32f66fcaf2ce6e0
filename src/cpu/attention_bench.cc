// How long the operations around the matrices take at gpt-oss shapes, as percent of what the
// machine can do: attention_bench [THREADS] [INSTRUCTION_SET]
//
// Prefill is bound by arithmetic (float32 or bf16 dot products), decode by the reading of keys and
// values, which lie in memory far larger than the caches.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/attention.h"
#include "cpu/limits.h"
#include "cpu/rms_norm.h"
#include "cpu/rope.h"
#include "cpu/route.h"
#include "cpu/test_support.h"

namespace moxie::cpu {
namespace {

constexpr int64_t kQHeads = 64, kKvHeads = 8, kHeadDim = 64, kHidden = 2880, kExperts = 32;
constexpr int64_t kQkvWidth = (kQHeads + 2 * kKvHeads) * kHeadDim;

PageBuffer random_bf16(int64_t count, uint64_t seed) {
  PageBuffer buffer(static_cast<size_t>(count) * sizeof(bf16));
  Random random(seed);
  bf16* out = buffer.as<bf16>().data();
  // One block of normal numbers over and over: their making must not take longer than the test.
  constexpr int64_t kPeriod = 65521;
  for (int64_t i = 0; i < count; ++i)
    out[i] = i < kPeriod ? to_bf16(random.normal()) : out[i - kPeriod];
  return buffer;
}

// Median seconds of a call, over at least `repeats` calls and a fifth of a second.
template <class Call>
double median_seconds(int repeats, const Call& call) {
  call(0);
  std::vector<double> times;
  double total = 0;
  for (int i = 1; i <= repeats || total < 0.2; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    call(i);
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

struct Machine {
  double bytes_per_second, flops, dot_flops;
};

class Bench {
 public:
  Bench(Isa isa, int threads) : isa_(isa), threads_(threads) {
    ThreadPool pool(threads);
    machine_.bytes_per_second = measure_read_bandwidth(pool);
    machine_.flops = measure_peak_flops(pool, std::min(isa, Isa::kAvx512));
    machine_.dot_flops = measure_peak_flops(pool, isa);
    std::printf("%s, %s, %d threads: reads %.1f GB/s, %.0f GFLOP/s in float32, %.0f best\n",
                describe_cpu().model_name.c_str(), name(isa), threads,
                machine_.bytes_per_second * 1e-9, machine_.flops * 1e-9, machine_.dot_flops * 1e-9);
  }

  // `rows` query rows at the end of `context` positions, in `batch` sequences.
  void attention_case(Phase phase, int64_t context_size, int64_t rows, int64_t window,
                      int64_t batch) {
    BackendLimits limits;
    limits.max_rows = rows * batch;
    limits.num_q_heads = kQHeads;
    limits.num_kv_heads = kKvHeads;
    limits.head_dim = kHeadDim;
    limits.max_context = context_size;
    TestContext context(isa_, threads_, limits, attention_scratch_bytes(limits, isa_, threads_));
    const int64_t capacity = window > 0 ? std::min(context_size, window - 1 + rows) : context_size;
    // Decode walks through several caches, so that none stays in the processor.
    const int64_t cache = kKvHeads * capacity * kHeadDim;
    const int64_t copies = phase == Phase::kPrefill
                               ? 1
                               : std::max<int64_t>(1, (int64_t{1} << 28) / (4 * cache * batch));
    const PageBuffer kv = random_bf16(2 * cache * batch * copies, 1);
    const int64_t width = kQHeads * kHeadDim;
    const PageBuffer q = random_bf16(limits.max_rows * width, 2);
    const PageBuffer out(static_cast<size_t>(limits.max_rows * width) * sizeof(bf16));
    const std::vector<float> sinks(kQHeads, 0.5f);
    std::vector<SequenceRows> sequences(static_cast<size_t>(batch));

    AttentionArgs args;
    args.phase = phase;
    args.q = ConstRows(q.data(), DType::kBF16, limits.max_rows, width, width);
    args.num_q_heads = kQHeads;
    args.num_kv_heads = kKvHeads;
    args.head_dim = kHeadDim;
    args.sinks = sinks.data();
    args.sm_scale = 0.125f;
    args.window = window;
    args.sequences = sequences;
    args.out = {out.data(), DType::kBF16, limits.max_rows, width, width};
    const double time = median_seconds(5, [&](int turn) {
      for (int64_t b = 0; b < batch; ++b) {
        bf16* k = kv.as<bf16>().data() + 2 * cache * (turn % copies * batch + b);
        sequences[static_cast<size_t>(b)] = {
            {k, k + cache, capacity}, context_size - rows, b * rows, rows};
      }
      attention(args, context.get());
    });

    double pairs = 0;  // of a query row and a key
    for (int64_t p = context_size - rows; p < context_size; ++p)
      pairs += static_cast<double>(window > 0 ? std::min(window, p + 1) : p + 1);
    const double flops = pairs * static_cast<double>(batch * kQHeads * kHeadDim * 4);
    const double seen =
        static_cast<double>(window > 0 ? std::min(window, context_size) : context_size);
    const double bytes = seen * static_cast<double>(batch * kKvHeads * kHeadDim * 4);
    std::printf("%-8s %2ld x %4ld rows, context %6ld, window %3ld: %9.1f us", phase_name(phase),
                static_cast<long>(batch), static_cast<long>(rows), static_cast<long>(context_size),
                static_cast<long>(window), time * 1e6);
    if (phase == Phase::kPrefill)
      std::printf(", %6.1f GFLOP/s, %4.1f%% of float32, %4.1f%% of best\n", flops / time * 1e-9,
                  100 * flops / time / machine_.flops, 100 * flops / time / machine_.dot_flops);
    else
      std::printf(", %6.1f GB/s, %4.1f%% of reading\n", bytes / time * 1e-9,
                  100 * bytes / time / machine_.bytes_per_second);
  }

  void row_cases(int64_t rows) {
    BackendLimits limits;
    limits.max_rows = rows;
    TestContext context(isa_, threads_, limits, 64);
    const PageBuffer qkv = random_bf16(rows * kQkvWidth, 3);
    const PageBuffer kv = random_bf16(2 * kKvHeads * rows * kHeadDim, 4);
    const std::vector<float> angles(static_cast<size_t>(rows * kHeadDim / 2), 0.7f);
    const std::vector<float> scale(kHidden, 1.5f);
    const std::vector<SequenceRows> sequences = {
        {{kv.data(), kv.as<bf16>().data() + kKvHeads * rows * kHeadDim, rows}, 0, 0, rows}};
    RopeArgs rope_args;
    rope_args.qkv = {qkv.data(), DType::kBF16, rows, kQkvWidth, kQkvWidth};
    rope_args.num_q_heads = kQHeads;
    rope_args.num_kv_heads = kKvHeads;
    rope_args.head_dim = kHeadDim;
    rope_args.cos = rope_args.sin = angles.data();
    rope_args.sequences = sequences;
    const PageBuffer x = random_bf16(rows * kHidden, 5);
    const PageBuffer out(static_cast<size_t>(rows * kHidden) * sizeof(bf16));
    RmsNormArgs norm_args;
    norm_args.x = ConstRows(x.data(), DType::kBF16, rows, kHidden, kHidden);
    norm_args.scale = scale.data();
    norm_args.out = {out.data(), DType::kBF16, rows, kHidden, kHidden};
    std::vector<int32_t> ids(static_cast<size_t>(rows * 4));
    std::vector<float> weights(static_cast<size_t>(rows * 4));
    RouteArgs route_args;
    route_args.logits = ConstRows(x.data(), DType::kBF16, rows, kExperts, kExperts);
    route_args.experts_per_token = 4;
    route_args.expert_ids = ids;
    route_args.weights = weights;
    const double rope_time = median_seconds(50, [&](int) { rope(rope_args, context.get()); });
    const double norm_time = median_seconds(50, [&](int) { rms_norm(norm_args, context.get()); });
    const double route_time = median_seconds(50, [&](int) { route(route_args, context.get()); });
    std::printf("%4ld rows: rope %7.1f us, rms_norm %7.1f us, route %7.1f us\n",
                static_cast<long>(rows), rope_time * 1e6, norm_time * 1e6, route_time * 1e6);
  }

 private:
  static const char* phase_name(Phase phase) {
    return phase == Phase::kPrefill ? "prefill" : "decode";
  }

  Isa isa_;
  int threads_;
  Machine machine_;
};

}  // namespace
}  // namespace moxie::cpu

int main(int argc, char** argv) {
  using namespace moxie;
  using namespace moxie::cpu;
  const int threads = argc > 1 ? std::atoi(argv[1]) : available_cpus();
  const std::optional<Isa> isa = argc > 2 ? parse_isa(argv[2]) : best_isa();
  if (threads < 1 || !isa || *isa > best_isa()) {
    std::fprintf(stderr, "usage: attention_bench [THREADS] [INSTRUCTION_SET]\n");
    return 2;
  }
  Bench bench(*isa, threads);
  bench.attention_case(Phase::kPrefill, 512, 512, 0, 1);
  bench.attention_case(Phase::kPrefill, 512, 512, 128, 1);
  bench.attention_case(Phase::kPrefill, 4096, 512, 0, 1);
  bench.attention_case(Phase::kPrefill, 4096, 512, 128, 1);
  for (const int64_t context : {128, 1024, 4096, 32768, 131072})
    bench.attention_case(Phase::kDecode, context, 1, 0, 1);
  bench.attention_case(Phase::kDecode, 32768, 1, 128, 1);
  bench.attention_case(Phase::kDecode, 4096, 1, 0, 16);
  bench.row_cases(1);
  bench.row_cases(512);
  return 0;
}
