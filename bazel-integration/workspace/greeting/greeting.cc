#include "greeting/greeting.h"

#include "greeting/words.h"

std::string Greeting(int part, const std::string& name) {
  if (part < 0) return "";
  for (int at = 0; kWords[at] != nullptr; at++) {
    if (at == part) return std::string(kWords[at]) + ", " + name;
  }
  return "";
}
