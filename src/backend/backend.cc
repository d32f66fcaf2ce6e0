#include "backend/backend.h"

#include "base/check.h"
#include "base/env.h"
#include "base/thread_pool.h"
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "ops/reference/reference_backend.h"

namespace moxie {
namespace {

// One row per instruction set, so that `doctor` also says what a better CPU would use.
void describe_cpu_kernels(Precision precision, std::vector<BackendReport>& reports) {
  const cpu::Isa best = cpu::best_isa();
  std::optional<cpu::Isa> chosen;
  std::string refusal;
  try {
    chosen = cpu::chosen_isa();
  } catch (const Error& error) {
    refusal = error.what();
  }
  for (const cpu::Isa isa : {cpu::Isa::kAmx, cpu::Isa::kAvx512Bf16, cpu::Isa::kAvx512,
                             cpu::Isa::kAvx2, cpu::Isa::kScalar}) {
    BackendReport report;
    report.name = concat("cpu ", cpu::name(isa));
    report.available = isa <= best;
    report.chosen = chosen == isa && precision == Precision::kBf16;
    if (!report.available)
      report.reason = "this CPU or its operating system does not offer it";
    else if (!refusal.empty())
      report.reason = refusal;
    else if (report.chosen)
      report.reason = isa == best ? "the best this machine offers" : "MOXIE_CPU_ISA asks for it";
    else if (chosen == isa)
      report.reason = "--precision fp32 asks for the reference instead";
    else
      report.reason = isa > *chosen ? "MOXIE_CPU_ISA rules it out" : "a better one is there";
    reports.push_back(std::move(report));
  }
}

}  // namespace

std::optional<Precision> parse_precision(std::string_view name) {
  if (name == "bf16") return Precision::kBf16;
  if (name == "fp32") return Precision::kFp32;
  return std::nullopt;
}

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const int num_threads = options.num_threads > 0 ? options.num_threads : available_cpus();
  if (options.precision == Precision::kFp32)
    return make_reference_backend(DType::kF32, num_threads);
  return make_cpu_backend(num_threads, cpu::chosen_isa());
}

std::vector<BackendReport> describe_backends(const BackendOptions& options) {
  std::vector<BackendReport> reports;
  describe_cpu_kernels(options.precision, reports);
  reports.push_back({.name = "reference",
                     .available = true,
                     .chosen = options.precision == Precision::kFp32,
                     .reason = options.precision == Precision::kFp32
                                   ? "--precision fp32 asks for it"
                                   : "the slow oracle; --precision fp32 asks for it"});
  reports.push_back({.name = "cuda", .reason = "not built in"});
  return reports;
}

}  // namespace moxie
