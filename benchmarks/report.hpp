#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <torch/version.h>

#include <rino/core/version.hpp>
#include <rino/jets/jets.hpp>

namespace bench {

/// One side of a comparison: the median of its repetitions, in seconds.
struct Timing {
  double seconds = 0;
  std::size_t repetitions = 0;
  double spread = 0;  ///< half the distance between the quartiles, over the median
};

/// Does pieces of work by turns, once each before the first measurement.
inline std::vector<Timing> interleaved(const std::vector<std::function<void()>>& sides, int repetitions) {
  std::vector<std::vector<double>> seconds(sides.size());
  for (int repetition = -1; repetition < repetitions; ++repetition) {
    for (std::size_t s = 0; s < sides.size(); ++s) {
      const auto start = std::chrono::steady_clock::now();
      sides[s]();
      const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (repetition >= 0) {
        seconds[s].push_back(taken);
      }
    }
  }
  std::vector<Timing> timings;
  for (std::vector<double>& all : seconds) {
    std::sort(all.begin(), all.end());
    const auto at = [&](double q) { return all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))]; };
    timings.push_back({at(0.5), all.size(), (at(0.75) - at(0.25)) / 2 / at(0.5)});
  }
  return timings;
}

/// A result in the form of `common.py`: rows of times, figures with their aims, checks; as a table and as JSON.
class Report {
 public:
  Report(std::string name, const rino::Jets<double>& jets, int argc, char** argv) : name_(std::move(name)) {
    std::vector<std::int64_t> counts;
    double squares = 0;
    for (std::int64_t j = 0; j < jets.size(); ++j) {
      counts.push_back(jets.multiplicity(j));
      squares += static_cast<double>(counts.back()) * static_cast<double>(counts.back());
    }
    std::sort(counts.begin(), counts.end());
    const auto n = static_cast<double>(counts.size());
    const double mean = static_cast<double>(jets.constituents()) / n;
    const double deviation = std::sqrt(std::max(squares / n - mean * mean, 0.0));
    std::ostringstream quantiles;
    std::ostringstream shown;
    for (const int q : {0, 5, 50, 95, 100}) {
      const auto value = counts[static_cast<std::size_t>(std::lround(q / 100.0 * (n - 1)))];
      quantiles << (q > 0 ? ", " : "") << '"' << q << "%\": " << value;
      shown << ' ' << value;
    }
    std::ostringstream json;
    json << "{\"jets\": " << jets.size() << ", \"mean\": " << mean << ", \"std\": " << deviation << ", \"quantiles\": {"
         << quantiles.str() << "}}";
    multiplicities_ = json.str();
    describe_machine(argc, argv);
    std::printf("== %s: %s\n%lld toy jets, %.1f +- %.1f constituents; 0%%, 5%%, 50%%, 95%%, 100%%:%s\n", name_.c_str(),
                processor_.c_str(), static_cast<long long>(jets.size()), mean, deviation, shown.str().c_str());
  }

  void row(const std::string& name, const Timing& timing, std::int64_t jets) {
    const double rate = static_cast<double>(jets) / timing.seconds;
    std::printf("%-44s %10.0f jets/s %8.2f us/jet  spread %3.0f%%  n %zu\n", name.c_str(), rate, 1e6 / rate,
                100 * timing.spread, timing.repetitions);
    std::ostringstream json;
    json << "{\"name\": " << quoted(name) << ", \"seconds\": " << timing.seconds
         << ", \"repetitions\": " << timing.repetitions << ", \"spread\": " << timing.spread
         << ", \"jets_per_second\": " << rate << ", \"us_per_jet\": " << 1e6 / rate << "}";
    rows_.push_back(json.str());
  }

  /// @param aim  the least the ratio should be, 0 for none.
  void figure(const std::string& name, double ratio, double aim = 0) {
    std::ostringstream json;
    json << "{\"name\": " << quoted(name) << ", \"value\": " << ratio << ", \"unit\": \"x\", \"aim\": ";
    if (aim > 0) {
      json << aim;
      std::printf("%s: %.3gx (aim: at least %.3gx)\n", name.c_str(), ratio, aim);
    } else {
      json << "null";
      std::printf("%s: %.3gx\n", name.c_str(), ratio);
    }
    json << "}";
    figures_.push_back(json.str());
  }

  /// Ends the program if two outputs differ: their times mean nothing then.
  void check(const std::string& what, double difference, double tolerance) {
    std::ostringstream json;
    json << "{\"what\": " << quoted(what) << ", \"difference\": " << difference << ", \"tolerance\": " << tolerance
         << "}";
    checks_.push_back(json.str());
    std::printf("%s: differ by %.2g\n", what.c_str(), difference);
    if (!(difference <= tolerance)) {
      std::fprintf(stderr, "%s differ by %g, more than %g: the times mean nothing\n", what.c_str(), difference,
                   tolerance);
      std::exit(EXIT_FAILURE);
    }
  }

  /// Writes FOLDER/NAME.json, whole or not at all; false if it cannot.
  bool write(const std::filesystem::path& folder) const {
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    const std::filesystem::path partial = folder / ("." + name_ + "." + std::to_string(getpid()) + ".partial");
    std::ofstream file(partial);
    file << "{\"benchmark\": " << quoted(name_) << ",\n\"machine\": " << machine_
         << ",\n\"multiplicities\": " << multiplicities_ << ",\n\"rows\": [" << joined(rows_) << "],\n\"figures\": ["
         << joined(figures_) << "],\n\"checks\": [" << joined(checks_) << "]}\n";
    file.close();
    if (file) {
      std::filesystem::rename(partial, folder / (name_ + ".json"), failed);
    }
    return file && !failed;
  }

 private:
  static std::string quoted(std::string_view text) {
    std::string all = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        all += '\\';
      }
      all += c;
    }
    return all + '"';
  }

  static std::string joined(const std::vector<std::string>& items) {
    std::string all;
    for (const std::string& item : items) {
      all += (all.empty() ? "\n " : ",\n ") + item;
    }
    return all;
  }

  void describe_machine(int argc, char** argv) {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; flags_.empty() && std::getline(cpuinfo, line);) {
      const std::size_t colon = line.find(": ");
      if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
        processor_ = line.substr(colon + 2);
      } else if ((line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) && colon != std::string::npos) {
        flags_ = line.substr(colon + 1) + ' ';
      }
    }
    std::vector<std::string> instructions;
    for (const char* const set : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve"}) {
      if (flags_.find(std::string(" ") + set + " ") != std::string::npos) {
        instructions.push_back(quoted(set));
      }
    }
    double load = 0;
    const bool has_load = getloadavg(&load, 1) == 1;
    const std::time_t now = std::time(nullptr);
    char date[32];
    std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S+00:00", std::gmtime(&now));
    std::string command = std::filesystem::path(argv[0]).filename().string();
    for (int i = 1; i < argc; ++i) {
      command += std::string(" ") + argv[i];
    }
    std::ostringstream json;
    json << "{\"processor\": " << quoted(processor_) << ", \"instructions\": [" << joined(instructions)
         << "], \"cores\": " << std::thread::hardware_concurrency() << ", \"load\": ";
    (has_load ? json << load : json << "null")
        << ", \"torch\": " << quoted(TORCH_VERSION) << ", \"compiler\": " << quoted(__VERSION__)
        << ", \"pyrino\": " << quoted(rino::kVersion) << ", \"date\": " << quoted(date)
        << ", \"command\": " << quoted(command) << "}";
    machine_ = json.str();
  }

  std::string name_;
  std::string processor_ = "unknown processor";
  std::string flags_;
  std::string machine_;
  std::string multiplicities_;
  std::vector<std::string> rows_;
  std::vector<std::string> figures_;
  std::vector<std::string> checks_;
};

}  // namespace bench
