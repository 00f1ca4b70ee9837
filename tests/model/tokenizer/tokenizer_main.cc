// tokenizer_main FOLDER: reads one JSON string per line and writes, per line,
// [ids, the text of those ids] of the tokenizer in FOLDER. For tests that
// compare with other implementations.
#include <iostream>
#include <string>

#include "nlohmann/json.hpp"

#include "moescope/model/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenizer_main FOLDER\n";
    return 2;
  }
  const auto tokenizer = moescope::model::Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    const auto ids = (*tokenizer)->Encode(text);
    if (!ids.ok()) {
      std::cerr << ids.status() << " for " << line << "\n";
      return 1;
    }
    const auto decoded = (*tokenizer)->Decode(*ids);
    if (!decoded.ok()) {
      std::cerr << decoded.status() << " for " << line << "\n";
      return 1;
    }
    std::cout << nlohmann::json::array({*ids, *decoded}) << "\n";
  }
  return 0;
}
