#include "cpu/cpu_backend.h"

#include <algorithm>

#include "base/check.h"
#include "base/memory.h"
#include "base/thread_pool.h"
#include "cpu/attention.h"
#include "cpu/context.h"
#include "cpu/embed.h"
#include "cpu/linear.h"
#include "cpu/moe.h"
#include "cpu/rms_norm.h"
#include "cpu/rope.h"
#include "cpu/route.h"

namespace moxie {
namespace {

BackendLimits larger(const BackendLimits& a, const BackendLimits& b) {
  return {.max_rows = std::max(a.max_rows, b.max_rows),
          .hidden_size = std::max(a.hidden_size, b.hidden_size),
          .intermediate_size = std::max(a.intermediate_size, b.intermediate_size),
          .num_q_heads = std::max(a.num_q_heads, b.num_q_heads),
          .num_kv_heads = std::max(a.num_kv_heads, b.num_kv_heads),
          .head_dim = std::max(a.head_dim, b.head_dim),
          .num_experts = std::max(a.num_experts, b.num_experts),
          .experts_per_token = std::max(a.experts_per_token, b.experts_per_token),
          .max_context = std::max(a.max_context, b.max_context)};
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(int num_threads, cpu::Isa isa)
      : pool_(num_threads), context_{.pool = pool_, .isa = isa, .limits = {}, .scratch = {}} {}

  std::string description() const override {
    const int threads = pool_.num_threads();
    return concat("cpu ", cpu::name(context_.isa), ", ", threads,
                  threads == 1 ? " thread" : " threads");
  }

  DType activation_dtype() const override { return DType::kBF16; }

  int64_t reserve(const BackendLimits& limits) override {
    const BackendLimits wanted = larger(context_.limits, limits);
    const int threads = pool_.num_threads();
    // One operation runs at a time: they share the memory.
    const int64_t bytes = std::max({cpu::linear_scratch_bytes(wanted, context_.isa, threads),
                                    cpu::moe_scratch_bytes(wanted, context_.isa, threads),
                                    cpu::attention_scratch_bytes(wanted, context_.isa, threads)});
    if (bytes > static_cast<int64_t>(arena_.size_bytes())) {
      arena_ = PageBuffer();  // give the old one back first
      arena_ = PageBuffer(static_cast<size_t>(bytes));
    }
    context_.limits = wanted;
    context_.scratch = {arena_.data(), arena_.size_bytes()};
    return static_cast<int64_t>(arena_.size_bytes());
  }

  void embed(const EmbedArgs& args) override { cpu::embed(args, checked(args.out.rows)); }
  void rms_norm(const RmsNormArgs& args) override { cpu::rms_norm(args, checked(args.x.rows)); }
  void linear(const LinearArgs& args) override { cpu::linear(args, checked(args.x.rows)); }
  void rope(const RopeArgs& args) override { cpu::rope(args, checked(args.qkv.rows)); }
  void attention(const AttentionArgs& args) override { cpu::attention(args, checked(args.q.rows)); }
  void route(const RouteArgs& args) override { cpu::route(args, checked(args.logits.rows)); }
  void moe(const MoeArgs& args) override { cpu::moe(args, checked(args.x.rows)); }

 private:
  cpu::Context& checked(int64_t rows) {
    MOXIE_CHECK(rows <= context_.limits.max_rows, kInvalidArgument, "a call with ", rows,
                " rows needs a reserve() for as many; it was for ", context_.limits.max_rows);
    return context_;
  }

  ThreadPool pool_;
  PageBuffer arena_;
  cpu::Context context_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int num_threads, cpu::Isa isa) {
  MOXIE_CHECK(isa <= cpu::best_isa(), kInvalidArgument, "this machine offers at most ",
              cpu::name(cpu::best_isa()), ", not ", cpu::name(isa));
  return std::make_unique<CpuBackend>(num_threads, isa);
}

}  // namespace moxie
