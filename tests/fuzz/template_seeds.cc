// Writes the first inputs of template_fuzz: template_seeds GOLDEN_FOLDER FOLDER. The templates and
// single expressions of the golden tests, which use all that templates have.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

int main(int count, char** words) {
  if (count != 3) {
    std::cerr << "template_seeds GOLDEN_FOLDER FOLDER\n";
    return 2;
  }
  const std::filesystem::path golden = words[1], folder = words[2];
  std::filesystem::create_directories(folder);
  for (const auto& entry : std::filesystem::directory_iterator(golden)) {
    if (entry.path().extension() != ".jinja") continue;
    std::filesystem::copy_file(entry.path(), folder / entry.path().filename(),
                               std::filesystem::copy_options::overwrite_existing);
  }
  std::ifstream lines(golden / "expressions.jsonl");
  int number = 0;
  for (std::string line; std::getline(lines, line); ++number) {
    const auto parsed = nlohmann::json::parse(line, nullptr, false);
    if (!parsed.is_array() || parsed.empty() || !parsed[0].is_string()) return 1;
    std::ofstream(folder / ("expression-" + std::to_string(number)), std::ios::binary)
        << parsed[0].get<std::string>();
  }
  return number > 0 ? 0 : 1;
}
