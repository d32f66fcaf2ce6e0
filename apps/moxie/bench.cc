// `moxie bench`: how fast a model reads prompts and writes tokens here, beside what the machine
// could do at best, measured in the same run.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/memory.h"
#include "commands.h"
#include "counting_backend.h"
#include "cpu/isa.h"
#include "cpu/limits.h"
#include "model_options.h"
#include "moxie/version.h"
#include "terminal.h"
#include "work_model.h"

namespace moxie::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string model, like, json;
  int64_t layers = 0;
  std::vector<int64_t> prefill = {128, 512}, context = {0}, batch = {1};
  int64_t decode = 32, chunk = kPrefillRows;
  int runs = 5;
  uint64_t seed = 1;
  bool no_limits = false;
  ModelOptions machine;
};

struct Spread {
  double median = 0, min = 0, max = 0;
};

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  const double median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  return {median, values.front(), values.back()};
}

double seconds_of(auto&& work) {
  const Clock::time_point start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct PrefillResult {
  int64_t tokens = 0;
  Spread tokens_per_second;
  double flops = 0, attention_flops = 0;  // of one run
  double flops_per_second = 0;            // at the median, without attention scores
  double skew = 0;
};

struct DecodeResult {
  int64_t context = 0, batch = 0, tokens = 0;
  Spread tokens_per_second;  // all sequences together
  double step_bytes = 0, experts_per_layer = 0;
  double bytes_per_second = 0;             // at the median
  double read_before = 0, read_after = 0;  // the limit; 0: not measured

  double reading() const { return (read_before + read_after) / 2; }
};

struct Limits {
  double read_bytes_per_second = 0, flops_per_second = 0;  // 0: not measured
};

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), config_(), random_(static_cast<uint32_t>(options.seed)) {
    const int threads = backend_options(options.machine).num_threads;
    num_threads_ = threads > 0 ? threads : available_cpus();
    make_model();
  }

  void run() {
    print_head();
    if (!options_.no_limits) measure_limits();
    run_prefill();
    run_decode();
    print_foot();
    if (!options_.json.empty()) write_json();
  }

 private:
  void make_model() {
    GptOssWeights weights;
    if (!options_.like.empty()) {
      GptOssConfig config = preset_config(options_.like);
      if (options_.layers > 0) {
        config.num_layers = options_.layers;
        config.layer_is_sliding.clear();
        for (int64_t i = 0; i < options_.layers; ++i) config.layer_is_sliding.push_back(i % 2 == 0);
      }
      say("making random weights ...");
      weights = random_weights(config, options_.seed, num_threads_);
    } else {
      weights = load_weights(find_model(options_.model, "bench"));
    }
    config_ = weights.config;
    int64_t positions = 1;
    for (const int64_t tokens : options_.prefill) positions = std::max(positions, tokens);
    for (const int64_t context : options_.context)
      positions = std::max(positions, context + options_.decode);
    MOXIE_CHECK(positions <= config_.max_position, kInvalidArgument, "this needs a context of ",
                positions, " tokens and the model has ", config_.max_position);
    positions_ = positions;
    const int64_t most = *std::max_element(options_.batch.begin(), options_.batch.end());
    const int64_t rows = std::max(std::min(options_.chunk, positions), most);
    auto backend = std::make_unique<CountingBackend>(
        make_backend(backend_options(options_.machine)), config_.num_experts);
    backend_ = backend.get();
    model_ = std::make_unique<Model>(std::move(weights), std::move(backend), rows, most, positions);
  }

  // On standard error when standard output carries the JSON.
  void say(const std::string& line) {
    if (options_.json == "-")
      note(line + "\n");
    else
      print(line + "\n");
  }

  void print_head() {
    const cpu::CpuDescription cpu = cpu::describe_cpu();
    say(concat("moxie ", version(), ", ", cpu.model_name, ", ", backend_->description()));
    say(concat(options_.like.empty() ? options_.model : "random weights like " + options_.like,
               ", ", config_.num_layers, " layers, ", config_.num_experts, " experts, ",
               config_.experts_per_token, " per token"));
  }

  void measure_limits() {
    ThreadPool pool(num_threads_);
    limits_.read_bytes_per_second = cpu::measure_read_bandwidth(pool);
    last_reading_ = limits_.read_bytes_per_second;
    isa_ = options_.machine.precision == "fp32" ? cpu::Isa::kScalar : cpu::chosen_isa();
    limits_.flops_per_second = cpu::measure_peak_flops(pool, isa_);
    say(concat("measured now: reading ", format_fixed(limits_.read_bytes_per_second / 1e9, 2),
               " GB/s, arithmetic (", cpu::name(isa_), ") ",
               format_fixed(limits_.flops_per_second / 1e9, 0), " GFLOP/s, ", num_threads_,
               num_threads_ == 1 ? " thread" : " threads"));
  }

  std::vector<int32_t> random_tokens(int64_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (int32_t& token : tokens)
      token = static_cast<int32_t>(random_() % static_cast<uint64_t>(config_.vocab_size));
    return tokens;
  }

  // As a session does: in chunks, logits for the last token only.
  void prefill(KvCache& cache, const std::vector<int32_t>& tokens) {
    const size_t step = static_cast<size_t>(std::min(options_.chunk, model_->max_rows()));
    for (size_t done = 0; done < tokens.size(); done += step) {
      const size_t count = std::min(step, tokens.size() - done);
      const ForwardChunk chunk{
          &cache, std::span(tokens).subspan(done, count),
          done + count == tokens.size() ? LogitsWanted::kLast : LogitsWanted::kNone};
      model_->forward({&chunk, 1}, Phase::kPrefill);
    }
  }

  void run_prefill() {
    if (options_.prefill.empty()) return;
    say("\nprefill  tokens/s: median      min      max   GFLOP/s   % of arithmetic   + attention");
    KvCache cache = model_->make_cache(positions_);
    for (const int64_t tokens : options_.prefill) {
      std::vector<double> rates;
      PrefillResult result;
      result.tokens = tokens;
      for (int run = -1; run < options_.runs; ++run) {  // the first warms up
        const std::vector<int32_t> prompt = random_tokens(tokens);
        cache.truncate(0);
        backend_->counts = {};
        const double seconds = seconds_of([&] { prefill(cache, prompt); });
        result.skew = backend_->counts.skew(config_.num_experts);
        if (run >= 0) rates.push_back(static_cast<double>(tokens) / seconds);
      }
      result.tokens_per_second = spread_of(rates);
      result.flops = prefill_flops(config_, tokens);
      result.attention_flops = attention_flops(config_, 0, tokens);
      const double seconds = static_cast<double>(tokens) / result.tokens_per_second.median;
      result.flops_per_second = result.flops / seconds;
      prefill_.push_back(result);
      const Spread& s = result.tokens_per_second;
      say(concat(right(std::to_string(tokens), 7), right(format_fixed(s.median, 2), 19),
                 right(format_fixed(s.min, 2), 9), right(format_fixed(s.max, 2), 9),
                 right(format_fixed(result.flops_per_second / 1e9, 1), 10),
                 right(percent(result.flops_per_second, limits_.flops_per_second), 18),
                 right(percent(result.attention_flops, result.flops), 14)));
    }
  }

  void run_decode() {
    if (options_.decode <= 0) return;
    say("\ndecode   context  batch   tokens/s: median      min      max   GB/token step      GB/s  "
        " "
        "% of reading");
    for (const int64_t context : options_.context) {
      for (const int64_t batch : options_.batch) decode_.push_back(decode_one(context, batch));
    }
  }

  DecodeResult decode_one(int64_t context, int64_t batch) {
    DecodeResult result;
    result.context = context;
    result.batch = batch;
    result.tokens = options_.decode;
    // A context of 0 still begins with the first token decoded.
    std::vector<KvCache> caches;
    for (int64_t i = 0; i < batch; ++i) caches.push_back(model_->make_cache(positions_));
    std::vector<double> rates;
    double kv_bytes = 0;
    for (int64_t i = 0; i < options_.decode; ++i) kv_bytes += decode_kv_bytes(config_, context + i);
    kv_bytes = kv_bytes / static_cast<double>(options_.decode) * static_cast<double>(batch);
    for (int run = -1; run < options_.runs; ++run) {
      for (KvCache& cache : caches) {
        if (cache.length() > 0 && cache.truncate(context)) continue;
        cache.truncate(0);
        if (context > 0) prefill(cache, random_tokens(context));
      }
      const std::vector<int32_t> tokens = random_tokens(batch * options_.decode);
      std::vector<ForwardChunk> chunks(static_cast<size_t>(batch));
      backend_->counts = {};
      const int64_t steps = run < 0 ? std::min<int64_t>(4, options_.decode) : options_.decode;
      const double seconds = seconds_of([&] {
        for (int64_t step = 0; step < steps; ++step) {
          for (int64_t i = 0; i < batch; ++i)
            chunks[static_cast<size_t>(i)] = {&caches[static_cast<size_t>(i)],
                                              {&tokens[static_cast<size_t>(step * batch + i)], 1},
                                              LogitsWanted::kLast};
          model_->forward(chunks, Phase::kDecode);
        }
      });
      if (run < 0) continue;
      rates.push_back(static_cast<double>(batch * steps) / seconds);
      result.experts_per_layer += backend_->counts.experts_per_call() / options_.runs;
    }
    result.tokens_per_second = spread_of(rates);
    result.step_bytes = decode_weight_bytes(config_, batch, result.experts_per_layer) + kv_bytes;
    const Spread& s = result.tokens_per_second;
    result.bytes_per_second = result.step_bytes * s.median / static_cast<double>(batch);
    measure_reading_around(&result);
    say(concat(right(std::to_string(context), 16), right(std::to_string(batch), 7),
               right(format_fixed(s.median, 3), 19), right(format_fixed(s.min, 3), 9),
               right(format_fixed(s.max, 3), 9),
               right(format_fixed(result.step_bytes / 1e9, 3), 16),
               right(format_fixed(result.bytes_per_second / 1e9, 2), 10),
               right(percent(result.bytes_per_second, result.reading()), 15)));
    if (std::abs(result.read_after - result.read_before) > 0.1 * result.read_before)
      say(concat("  reading went from ", format_fixed(result.read_before / 1e9, 1), " to ",
                 format_fixed(result.read_after / 1e9, 1),
                 " GB/s meanwhile; the share is of their mean, and uncertain"));
    return result;
  }

  // A shared machine's memory can be twice as fast a moment later, so reading is measured before
  // and after.
  void measure_reading_around(DecodeResult* result) {
    if (options_.no_limits) return;
    ThreadPool pool(num_threads_);
    result->read_before = last_reading_;
    result->read_after = last_reading_ = cpu::measure_read_bandwidth(pool);
  }

  void print_foot() {
    const ResidentMemory memory = resident_memory();
    memory_ = memory;
    say(concat("\nmemory: ", format_bytes(memory.anonymous_bytes), " anonymous, ",
               format_bytes(memory.mapped_file_bytes), " mapped, ", format_bytes(memory.peak_bytes),
               " peak"));
    if (!prefill_.empty())
      say(concat("routing of random tokens: the busiest expert has ",
                 format_fixed(prefill_.back().skew, 2),
                 " times the mean load; published models are more skewed in use"));
    say(concat(
        "GFLOP/s count the weights needed, two per multiply-add: of the last layer keys and values "
        "only but for the last token, and its unembedding; attention scores are beside them.\nGB "
        "per step are the bytes that must be read: "
        "weights, the distinct experts counted in the run, keys and values."));
  }

  static std::string percent(double value, double whole) {
    return whole > 0 ? format_fixed(100 * value / whole, 1) + " %" : "-";
  }

  static std::string right(const std::string& text, size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : " " + text;
  }

  static std::string json_spread(const Spread& s) {
    return concat("{\"median\": ", s.median, ", \"min\": ", s.min, ", \"max\": ", s.max, "}");
  }

  static std::string json_share(double value, double whole) {
    return whole > 0 ? concat(value / whole) : "null";
  }

  void write_json() const {
    const cpu::CpuDescription cpu = cpu::describe_cpu();
    std::string text = concat(
        "{\n  \"moxie\": ", json::quote(version()), ",\n  \"cpu\": ", json::quote(cpu.model_name),
        ",\n  \"backend\": ", json::quote(backend_->description()),
        ",\n  \"threads\": ", num_threads_, ",\n  \"model\": ",
        json::quote(options_.like.empty() ? options_.model : "random " + options_.like),
        ",\n  \"layers\": ", config_.num_layers, ",\n  \"runs\": ", options_.runs,
        ",\n  \"read_bytes_per_second\": ", limits_.read_bytes_per_second,
        ",\n  \"arithmetic_isa\": ", json::quote(options_.no_limits ? "" : cpu::name(isa_)),
        ",\n  \"arithmetic_flops_per_second\": ", limits_.flops_per_second,
        ",\n  \"peak_resident_bytes\": ", memory_.peak_bytes, ",\n  \"prefill\": [");
    for (size_t i = 0; i < prefill_.size(); ++i) {
      const PrefillResult& r = prefill_[i];
      text += concat(i == 0 ? "\n" : ",\n", "    {\"tokens\": ", r.tokens,
                     ", \"tokens_per_second\": ", json_spread(r.tokens_per_second),
                     ", \"flops\": ", r.flops, ", \"attention_flops\": ", r.attention_flops,
                     ", \"flops_per_second\": ", r.flops_per_second, ", \"share_of_arithmetic\": ",
                     json_share(r.flops_per_second, limits_.flops_per_second),
                     ", \"routing_skew\": ", r.skew, "}");
    }
    text += "\n  ],\n  \"decode\": [";
    for (size_t i = 0; i < decode_.size(); ++i) {
      const DecodeResult& r = decode_[i];
      text += concat(
          i == 0 ? "\n" : ",\n", "    {\"context\": ", r.context, ", \"batch\": ", r.batch,
          ", \"tokens\": ", r.tokens, ", \"tokens_per_second\": ", json_spread(r.tokens_per_second),
          ", \"bytes_per_step\": ", r.step_bytes, ", \"experts_per_layer\": ", r.experts_per_layer,
          ", \"bytes_per_second\": ", r.bytes_per_second,
          ", \"share_of_reading\": ", json_share(r.bytes_per_second, r.reading()),
          ", \"read_bytes_per_second_before\": ", r.read_before,
          ", \"read_bytes_per_second_after\": ", r.read_after, "}");
    }
    text += "\n  ]\n}\n";
    if (options_.json == "-") return print(text);
    std::ofstream out(options_.json, std::ios::binary);
    out << text;
    out.close();
    MOXIE_CHECK(!out.fail(), kIo, "cannot write ", options_.json);
  }

  const Options& options_;
  GptOssConfig config_;
  std::mt19937_64 random_;
  int num_threads_ = 1;
  int64_t positions_ = 0;
  CountingBackend* backend_ = nullptr;  // owned by model_
  std::unique_ptr<Model> model_;
  cpu::Isa isa_ = cpu::Isa::kScalar;
  Limits limits_;
  double last_reading_ = 0;
  ResidentMemory memory_;
  std::vector<PrefillResult> prefill_;
  std::vector<DecodeResult> decode_;
};

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure prefill and decode, and what the machine could do at best");
  CLI::Option* model =
      command->add_option("MODEL", options->model, "Folder or id of the model; demo: moxie's own");
  CLI::Option* like =
      command->add_option("--like", options->like, "Random weights in these shapes, without a file")
          ->check(CLI::IsMember({"20b", "120b", "tiny"}))
          ->excludes(model);
  command->add_option("--layers", options->layers, "Layers to make, fewer than the shape has")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->needs(like);
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 20);
  const auto list = [&](const char* name, std::vector<int64_t>& values, const char* help,
                        const CLI::Validator& range) {
    command->add_option(name, values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(range)
        ->capture_default_str();
  };
  list("--prefill", options->prefill, "Prompt lengths", CLI::Range(int64_t{0}, int64_t{1} << 20));
  command->add_option("--decode", options->decode, "Tokens to decode in a run; 0: none")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  list("--context", options->context, "Tokens already there when decoding begins",
       CLI::Range(int64_t{0}, int64_t{1} << 20));
  list("--batch", options->batch, "Sequences decoded together", CLI::Range(1, 4096));
  command->add_option("--chunk", options->chunk, "Prompt tokens per forward pass")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--runs", options->runs, "Runs of each size, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of weights and tokens")->capture_default_str();
  command->add_flag("--no-limits", options->no_limits,
                    "Do not measure reading and arithmetic (they need 1.25 GiB and a second)");
  command->add_option("--json", options->json,
                      "Also write the result as JSON; - for standard output");
  add_thread_option(*command, options->machine);
  add_precision_option(*command, options->machine);
  command->footer(
      "Tokens are random, so that routing is close to uniform. Memory for --like 20b is 2.5 GB "
      "and\n"
      "0.5 GB per layer.\n"
      "\n"
      "Examples:\n"
      "  moxie bench --like 20b --layers 6\n"
      "  moxie bench ./gpt-oss-20b --prefill 128,512,2048 --decode 64 --context 0,4096\n"
      "  moxie bench --like 20b --layers 6 --batch 1,2,4,8 --prefill 0 --json - > result.json");
  command->callback([options] {
    if (options->model.empty() && options->like.empty())
      throw UsageError(
          "moxie bench needs a MODEL (demo is moxie's own), or --like 20b, 120b or tiny");
    std::erase(options->prefill, 0);
    Bench(*options).run();
  });
}

}  // namespace moxie::cli
