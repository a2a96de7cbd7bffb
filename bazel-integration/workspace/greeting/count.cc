#include "greeting/count.h"

#include <sstream>

int CountWords(const std::string& text) {
  std::istringstream words(text);
  std::string word;
  int count = 0;
  while (words >> word) count++;
  return count;
}
